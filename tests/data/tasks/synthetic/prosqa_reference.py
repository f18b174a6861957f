"""An independent reading of ProsQA items: from the words of the question alone."""

import re
from collections import Counter

import numpy as np


def parse(question):
    """The facts as {subject: [kinds]}, and (person, first kind, second kind) of the question."""
    *facts, last = question.strip().split(". ")
    graph = {}
    for fact in facts:
        subject, kind = re.fullmatch(r"(?:Every )?(\w+) is a (\w+)", fact).groups()
        assert fact.startswith("Every ") == subject[0].islower()
        graph.setdefault(subject, []).append(kind)
        graph.setdefault(kind, [])
    return graph, re.fullmatch(r"Is (\w+) a (\w+) or (\w+)\?", last).groups()


def distances(graph, start):
    """Breadth-first search: steps from ``start`` to everything that it is."""
    found = {start: 0}
    queue = [start]
    for node in queue:
        for kind in graph[node]:
            if kind not in found:
                found[kind] = found[node] + 1
                queue.append(kind)
    return found


def statistics(item):
    """Numbers by which generated and published items are compared."""
    graph, (person, first, _) = parse(item["question"])
    right = item["answer"].rstrip(".").split()[-1]
    names, edges = item["idx_to_symbol"], item["edges"]
    wrong = names[item["neg_target"]]
    facts_about = Counter(kind for kinds in graph.values() for kind in kinds)
    people = [name for name in graph if name[0].isupper()]
    # The other person is the other one of nodes 0 and 1.
    below, beside = distances(graph, person), distances(graph, names[1 - item["root"]])
    in_degrees = np.array([facts_about[name] for name in names[2:]])
    return {
        "nodes": len(names),
        "facts": len(edges),
        "hops": below[right],
        "hops to the wrong kind": beside[wrong],
        "longest chain": max(below.values()),
        "people": len(people),
        "kinds without facts": sum(not kinds for kinds in graph.values()),
        "facts of the person": len(graph[person]),
        "share of kinds of the person": (len(below) - 1) / len(names),
        "share of kinds of both": len(below.keys() & beside.keys()) / len(names),
        "facts about the right kind": facts_about[right],
        "facts about the wrong kind": facts_about[wrong],
        "share of nodes with one parent": float(np.mean(in_degrees == 1)),
        "share of nodes with two parents": float(np.mean(in_degrees == 2)),
        "share of nodes with more parents": float(np.mean(in_degrees > 2)),
        "asked about node 1": item["root"],
        "right kind named first": int(first == right),
        "right kind in fewer facts": float(
            (np.sign(facts_about[wrong] - facts_about[right]) + 1) / 2
        ),
        "right kind stated later": int(
            item["question"].index(f" {right}.") > item["question"].index(f" {wrong}.")
        ),
        "words": len(item["question"].split()),
    }
