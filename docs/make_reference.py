"""Write what is generated from the code into the docs: the settings table of the README and docs/ledger.md.

python docs/make_reference.py            write
python docs/make_reference.py --check    fail if a file is not what it would write
"""

import json
import sys
from pathlib import Path

from caption_assets.ledger.schema import TABLES
from caption_assets.settings import Settings, setting_names

DOCS = Path(__file__).parent
README, LEDGER = DOCS.parent / "README.md", DOCS / "ledger.md"
HEAD = "| setting | default | meaning |\n|---|---|---|\n"


def settings_table() -> str:
    """Return the rows of the settings table, from the one place that declares settings."""
    defaults = Settings().model_dump()
    rows = []
    for name, field in setting_names():
        group, _, inner = name.partition(".")
        value = defaults[group][inner]
        shown = "none" if value is None else value if isinstance(value, str) else json.dumps(value)
        rows.append(f"| `{name}` | {str(shown).strip()} | {(field.description or '').replace('|', '/')} |")
    return "\n".join(rows) + "\n"


def with_settings(readme: str) -> str:
    """Return the README with its settings table made again."""
    start = readme.index(HEAD) + len(HEAD)
    end = readme.index("\n\n", start) + 1
    return readme[:start] + settings_table() + readme[end:]


def ledger_reference() -> str:
    """Return docs/ledger.md: every table with its columns."""
    parts = ["# The ledger\n\nMade by `python docs/make_reference.py` from `caption_assets/ledger/schema.py`.\n"]
    parts.append(
        "Rows are only ever added. Views show what is live: `live_uploads`, `live_clips`, `live_windows`, "
        "`missing_splits`,\n`missing_windows`, `missing_captions`, `split_clips`, `latest_decision`, `captions`, and "
        "the same per batch:\n`batch_files`, `batch_clips`, `batch_windows`, `batch_duplicates`, `collapsed_windows`, "
        "`batch_decisions`,\n`batch_previews`, "
        "`current_recipes`; their SQL is in\n"
        "`caption_assets/ledger/sql/views.sql`. `standing_decisions` and `standing_takedowns`, in `people.sql`, leave\n"
        "out what people took back.\n\n"
        "In the database a row about a clip or a window also has `first_upload_at`, when a batch first held the clip: "
        "a statement\nthat joins on it, beside the id, reads that part of a table alone. `clip_first_uploads`, "
        "`batch_choices`,\n`batch_window_sets` and `batch_duplicates` are tables that every commit keeps up to date. "
        "A window also has `window_id_md5`,\n`md5_number_lower(window_id)`, by which it is found in a seventh of the "
        "time; look at its id too, in a second step as in\n`sql/why_window.sql`.\n"
    )
    for table in TABLES.values():
        parts.append(f"## {table.name}\n\n{table.meaning}. Key: {', '.join(f'`{name}`' for name in table.key)}.\n")
        lines = ["| column | type | meaning |", "|---|---|---|"]
        lines += [f"| `{c.name}` | {c.type}{'' if c.nullable else ' not null'} | {c.meaning} |" for c in table.columns]
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def main() -> int:
    """Write the files, or compare them."""
    wanted = {README: with_settings(README.read_text(encoding="utf-8")), LEDGER: ledger_reference()}
    stale = [path for path, text in wanted.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    if "--check" in sys.argv:
        for path in stale:
            print(f"{path.name} is stale: run python docs/make_reference.py")
        return 1 if stale else 0
    for path in stale:
        path.write_text(wanted[path], encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
