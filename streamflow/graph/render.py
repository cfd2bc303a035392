"""Plans as people read them: text for a terminal, Mermaid for a page."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from streamflow.graph.logical import LogicalGraph, Node, OperatorNode, SinkNode, SourceNode, inputs_of
from streamflow.graph.physical import ExchangeKind, PhysicalEdge, PhysicalPlan, PhysicalTask
from streamflow.operators.contract.operator import MAIN

_ESCAPES = str.maketrans({"&": "&amp;", '"': "&quot;", "<": "&lt;", ">": "&gt;", "|": "&#124;"})

__all__ = ["Plan", "logical_lines", "physical_lines"]


@dataclass(frozen=True, slots=True)
class Plan:
    """A job's plan, logical or physical, ready to be shown."""

    graph: LogicalGraph
    physical: PhysicalPlan | None = None

    def text(self) -> str:
        """Lines of text: one operator a line, indented under what it reads."""
        lines = logical_lines(self.graph) if self.physical is None else physical_lines(self.physical)
        return "\n".join(lines)

    def mermaid(self) -> str:
        """A Mermaid flowchart."""
        lines = _logical_mermaid(self.graph) if self.physical is None else _physical_mermaid(self.physical)
        return "\n".join(["flowchart LR", *lines])

    def svg(self) -> str:
        """An SVG picture, inputs to the left."""
        from streamflow.graph.drawing import drawing  # imported here because `escape` loads HTML's entities

        graph = self.graph
        return drawing(
            graph.job,
            {node.id: [node.id, _what(node)] for node in graph.nodes},
            [(read.node, node.id) for node in graph.nodes for read in inputs_of(node)],
        )

    def __str__(self) -> str:
        return self.text()

    def _repr_html_(self) -> str:
        """An HTML view for notebooks: the picture of the job, and the text of the plan."""
        from html import escape  # imported here because its table of entities is slow to import

        return f"<div>{self.svg()}<pre>{escape(self.text())}</pre></div>"


def logical_lines(graph: LogicalGraph) -> list[str]:
    """Lines for the logical graph: each node's action and inputs."""
    lines = [f"job {graph.job}"]
    for node in graph.nodes:
        reads = ", ".join(
            read.node if read.output == MAIN else f"{read.node}.{read.output}" for read in inputs_of(node)
        )
        source = f"  ← {reads}" if reads else ""
        lines.append(f"  {node.id}: {_what(node)}{source}")
    return lines


def physical_lines(plan: PhysicalPlan) -> list[str]:
    """Lines for the physical plan: tasks, their chained operators, those that run in the read-ahead, and the
    exchanges."""
    lines = [f"job {plan.job}"]
    for task in plan.tasks:
        lines.append(f"  task {task.id} ×{task.parallelism}")
        lines.extend(f"    {_arrow(edge)}" for edge in plan.edges if edge.lower == task.id)
        lines.extend(f"    {line}" for line in _members(task))
    return lines


def _members(task: PhysicalTask) -> list[str]:
    lines: list[str] = []
    if task.source is not None:
        columns = "" if task.columns is None else f"  columns: {', '.join(task.columns)}"
        lines.append(f"{task.source.id}: read {task.source.source.describe()}{columns}")
    for position, operator in enumerate(task.chain):
        ahead = "  (where it is read)" if position < task.read_ahead else ""
        lines.append(f"{operator.id}: {_spec(operator.spec.kind, operator.spec.describe())}{ahead}")
    for sink in task.sinks:
        reads = "" if sink.input.output == MAIN else f"  ← {sink.input.output}"
        lines.append(f"{sink.id}: {_what(sink)}{reads}")
    return lines


def _arrow(edge: PhysicalEdge) -> str:
    keys = f" by {', '.join(edge.keys)}" if edge.keys else ""
    output = "" if edge.reads.output == MAIN else f" ({edge.reads.output})"
    return f"← {edge.exchange.value}{keys} from {edge.upper}{output}"


def _what(node: Node) -> str:
    match node:
        case SourceNode():
            return f"read {node.source.describe()}"
        case OperatorNode():
            return _spec(node.kind, node.spec.describe())
        case SinkNode():
            return f"write {node.sink.describe()}  ({_delivery(node)})"


def _spec(kind: str, detail: str) -> str:
    return f"{kind} {detail}".rstrip()


def _delivery(node: SinkNode) -> str:
    return node.sink.delivery.replace("_", " ")


def _logical_mermaid(graph: LogicalGraph) -> list[str]:
    names = {node.id: f"n{index}" for index, node in enumerate(graph.nodes)}
    lines = [f'  {names[node.id]}["{_escape(node.id)}<br/>{_escape(_what(node))}"]' for node in graph.nodes]
    for node in graph.nodes:
        for read in inputs_of(node):
            label = "" if read.output == MAIN else f"|{_escape(read.output)}|"
            lines.append(f"  {names[read.node]} -->{label} {names[node.id]}")
    return lines


def _physical_mermaid(plan: PhysicalPlan) -> list[str]:
    lines: list[str] = []
    first: dict[str, str] = {}
    last: dict[str, str] = {}
    for number, task in enumerate(plan.tasks):
        lines.append(f'  subgraph t{number}["{_escape(task.id)} ×{task.parallelism}"]')
        members = [f"t{number}m{index}" for index, _ in enumerate(_members(task))]
        lines.extend(f'    {id}["{_escape(text)}"]' for id, text in zip(members, _members(task), strict=True))
        lines.extend(f"    {a} --> {b}" for a, b in pairwise(members))
        lines.append("  end")
        first[task.id], last[task.id] = members[0], members[-1 - len(task.sinks)]
    for edge in plan.edges:
        keys = f" by {', '.join(edge.keys)}" if edge.keys else ""
        label = "" if edge.exchange is ExchangeKind.FORWARD else f"|{edge.exchange.value}{_escape(keys)}|"
        lines.append(f"  {last[edge.upper]} -->{label} {first[edge.lower]}")
    return lines


def _escape(text: str) -> str:
    return text.translate(_ESCAPES)
