"""The engine `openai`: any OpenAI-compatible server or router.

`servers` decides which server a request goes to and when, `chat` writes bodies and reads answers; neither does any
input or output. `wire` is HTTP, `engine` puts them together.
"""
