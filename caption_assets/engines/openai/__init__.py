"""The engine `openai`: any OpenAI-compatible server or router.

`servers` decides which server a request goes to and when, `chat` writes bodies and reads answers, `engine` sends them.
The first two do no input or output.
"""
