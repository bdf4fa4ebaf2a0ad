"""The peer Aegra: a LangGraph of one node, and the framework's own scripted model.

Run by the interpreter of the peer's own environment; Muster never imports it.
"""

from langchain_core.language_models.fake_chat_models import FakeListChatModel
from langgraph.graph import END, START, MessagesState, StateGraph

DELTAS = 200


def graph(pause: float | None) -> object:
    """Says a letter for each delta; `pause` in seconds before each."""
    model = FakeListChatModel(responses=["x" * DELTAS], sleep=pause)

    async def say(state: MessagesState) -> dict[str, object]:
        return {"messages": [await model.ainvoke(state["messages"])]}

    made = StateGraph(MessagesState)
    made.add_node("say", say)
    made.add_edge(START, "say")
    made.add_edge("say", END)
    return made.compile()


flat, paced = graph(None), graph(0.01)
