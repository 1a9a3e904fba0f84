"""Caption a folder through an OpenAI-compatible server; without --url, through a small one that this file starts.

python examples/openai_server.py FOLDER [--root ROOT] [--url http://127.0.0.1:8000/v1 --model NAME]

A key, where the server wants one, is read from the environment variable OPENAI_API_KEY.
"""

import argparse
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from caption_assets import RootFolder, Settings, run_batch


class OneCaption(BaseHTTPRequestHandler):
    """Answers every chat request with the same words."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Answer /v1/chat/completions."""
        self.rfile.read(int(self.headers["Content-Length"]))
        message = {"role": "assistant", "content": "A rabbit stretches on a meadow in the sun."}
        self._send(200, {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]})

    def do_GET(self) -> None:
        """Answer everything else: a server need not list its models."""
        self._send(404, {"error": {"message": "not found"}})

    def _send(self, status: int, body: object) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def main() -> int:
    """Caption the folder."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--root", default="./data")
    parser.add_argument("--url")
    parser.add_argument("--model", default="one-caption")
    given = parser.parse_args()

    server = ThreadingHTTPServer(("127.0.0.1", 0), OneCaption)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = given.url or f"http://127.0.0.1:{server.server_port}/v1"
    model = {"model": given.model}
    settings = Settings.of({"caption": model, "enhance": model, "openai": {"base_urls": [url]}})
    return run_batch([given.folder], "by-server", "openai", RootFolder.at(given.root), settings)


if __name__ == "__main__":
    sys.exit(main())
