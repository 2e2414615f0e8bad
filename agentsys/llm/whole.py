"""Chat models that take no stream without its end for an answer.

The library says "stop" where a server gave no reason for the end, for the few servers that never do; a connection that
is closed in the middle of an answer looks the same.
"""

from pydantic_ai.messages import FinishReason
from pydantic_ai.models.ollama import OllamaModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIStreamedResponse


class _WholeStream(OpenAIStreamedResponse):
    def _missing_finish_reason(self) -> FinishReason:
        return "error"


class WholeChat(OpenAIChatModel):
    @property
    def _streamed_response_cls(self) -> type[OpenAIStreamedResponse]:
        return _WholeStream


class WholeOllama(OllamaModel):
    @property
    def _streamed_response_cls(self) -> type[OpenAIStreamedResponse]:
        return _WholeStream
