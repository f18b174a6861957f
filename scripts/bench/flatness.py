"""The largest Hessian eigenvalue: ours against PyHessian and hessian-eigenthings.

    python scripts/bench/flatness.py [--quick] [--json FILE]

Every method gets the same model (a GPT-2 after a short training), the same four batches with 1, 1,
24 and 24 supervised tokens a row, the same loss function, and the right weighting of the batches,
so that all solve the same problem. The error is measured against a float64 reference (SciPy's
ARPACK on plain autograd products). Two results per method:

- *reached*: seconds and products until the estimate is within 1e-3 of the reference and stays
  there. Only an oracle could stop at that point; this compares the algorithms.
- *own stop*: until the method's own stopping rule: ours at a residual of 1e-3, PyHessian when two
  successive estimates agree to 1e-3. hessian-eigenthings has none; it gets the smallest number of
  steps at which its own residual is below 1e-3.

Our time includes the operator's checks and kept graphs. Seconds are CPU seconds of one thread,
which depend less on other load; medians over repetitions, each with another start vector and in a
separate process, whose peak memory is reported.

Needs: pip install pyhessian==0.1 and pip install --no-deps hessian-eigenthings==1.0.0a5.
"""

import argparse
import contextlib
import ctypes
import gc
import multiprocessing
import resource
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from flatness_problem import SIZES, Problem
from measuring import write_records
from torch import Tensor, nn

from ntpctp._core.rng import torch_seed
from ntpctp.curvature import HessianOperator, top_eigenvalues
from ntpctp.curvature.krylov import KrylovBasis

TOLERANCE = 1e-3
MAX_STEPS = 24
MAX_POWER_ITERATIONS = 100  # PyHessian's default


class Run(NamedTuple):
    """Results of one method on one problem with one start vector."""

    reached_seconds: float
    reached_products: float
    own_seconds: float
    own_products: int
    own_error: float


class Trace:
    """Estimates and the times at which they were available."""

    def __init__(self) -> None:
        self.begin = time.process_time()
        self.seconds: list[float] = []
        self.estimates: list[float] = []

    def add(self, estimate: float) -> None:
        """Record the estimate after the latest product."""
        self.seconds.append(time.process_time() - self.begin)
        self.estimates.append(estimate)

    def reached(self, reference: float) -> tuple[float, float]:
        """Return seconds and products until the error stays below the tolerance."""
        wrong = [abs(e - reference) > TOLERANCE * reference for e in self.estimates]
        count = len(wrong) - wrong[::-1].index(True) if True in wrong else 0
        if count == len(wrong):
            return float("inf"), float("inf")  # never
        return self.seconds[count], count + 1


def ours(problem: Problem, reference: float, seed: int) -> Run:
    """Run the default call; then the same Lanczos step by step to find the oracle's stop."""
    begin = time.process_time()
    operator = HessianOperator(problem.loss, problem.parameters, problem.batches)
    result = top_eigenvalues(operator, seed=seed, relative_tolerance=TOLERANCE)
    own_seconds = time.process_time() - begin
    assert result.converged
    del operator

    trace = Trace()
    operator = HessianOperator(problem.loss, problem.parameters, problem.batches)
    generator = torch.Generator().manual_seed(torch_seed(seed, "lanczos"))
    basis = KrylovBasis(operator, 24, generator)
    basis.begin(None)
    for step in range(result.num_products):
        basis.extend()
        trace.add(float(basis.ritz()[0][-1]))
        if step + 1 < result.num_products and not basis.full:
            basis.make_room([])
    error = abs(result.value - reference) / reference
    return Run(*trace.reached(reference), own_seconds, result.num_products, error)


def eigenthings(problem: Problem, reference: float, seed: int) -> Run:
    """Run its Lanczos, which takes a fixed number of steps: every prefix is a shorter run."""
    from hessian_eigenthings.algorithms.lanczos import lanczos_tridiagonal
    from hessian_eigenthings.operators import HessianOperator as TheirOperator

    operator = TheirOperator(problem.model, problem.batches, lambda _, batch: problem.share(batch))
    generator = torch.Generator().manual_seed(seed)
    start = torch.randn(operator.size, generator=generator)
    stamps: list[float] = []
    product = operator.matvec

    def timed(vector: Tensor) -> Tensor:
        image = product(vector)
        stamps.append(time.process_time() - begin)
        return image

    operator.matvec = timed
    begin = time.process_time()
    found = lanczos_tridiagonal(operator, start, MAX_STEPS)
    trace, own = Trace(), 0
    couplings = [*found.betas.tolist(), found.last_beta]
    for steps in range(1, MAX_STEPS + 1):
        diagonal, off = found.alphas[:steps].double(), found.betas[: steps - 1].double()
        values, vectors = torch.linalg.eigh(diagonal.diag() + off.diag(1) + off.diag(-1))
        trace.add(float(values[-1]))
        residual = abs(couplings[steps - 1] * float(vectors[-1, -1]))
        if not own and residual < TOLERANCE * float(values[-1]):
            own = steps
    trace.seconds = stamps
    error = abs(trace.estimates[own - 1] - reference) / reference
    return Run(*trace.reached(reference), stamps[own - 1], own, error)


class _ByIndex(nn.Module):
    """A model for PyHessian whose output is the loss of the batch with the given index."""

    def __init__(self, problem: Problem):
        super().__init__()
        self.model, self._problem = problem.model, problem

    def forward(self, index: Tensor) -> Tensor:
        return self._problem.share(self._problem.batches[int(index)])


class _Enough(Exception):
    """Ends PyHessian's loop once both results are known."""


def pyhessian(problem: Problem, reference: float, seed: int) -> Run:
    """Run its power iteration and record the estimate after each product."""
    from pyhessian import hessian

    numbers = [(torch.tensor([i]), torch.tensor([i])) for i in range(len(problem.batches))]
    torch.manual_seed(seed)
    theirs = hessian(_ByIndex(problem), lambda out, _: out, dataloader=numbers, cuda=False)
    trace, own = Trace(), [0]
    product = theirs.dataloader_hv_product

    def observed(vector: list[Tensor]) -> tuple[float, list[Tensor]]:
        estimate, image = product(vector)
        trace.add(estimate)
        before = trace.estimates[-2] if len(trace.estimates) > 1 else None
        if not own[0] and before and abs(estimate - before) < TOLERANCE * abs(before):
            own[0] = len(trace.estimates)
        # Power iteration on a positive top eigenvalue approaches it from below, monotonically.
        if own[0] and abs(estimate - reference) < TOLERANCE * reference:
            raise _Enough
        return estimate, image

    theirs.dataloader_hv_product = observed
    with contextlib.suppress(_Enough):
        theirs.eigenvalues(maxIter=MAX_POWER_ITERATIONS, tol=0)
    problem.model.zero_grad()
    steps = own[0] or len(trace.estimates)
    error = abs(trace.estimates[steps - 1] - reference) / reference
    return Run(*trace.reached(reference), trace.seconds[steps - 1], steps, error)


METHODS: dict[str, Callable[[Problem, float, int], Run]] = {
    "ours": ours,
    "hessian-eigenthings": eigenthings,
    "pyhessian": pyhessian,
}


def median(runs: list[Run]) -> Run:
    """Return the median of each result."""
    return Run(*(statistics.median(column) for column in zip(*runs, strict=True)))


def product_cost(problem: Problem, repetitions: int) -> dict[str, float]:
    """Return seconds of a gradient, and of a product with recomputed and with kept graphs."""
    tensors = list(problem.parameters.values())
    kept = HessianOperator(problem.loss, problem.parameters, problem.batches)
    recomputed = HessianOperator(
        problem.loss, problem.parameters, problem.batches, graph_memory_bytes=0
    )
    assert kept.num_kept_graphs == len(problem.batches)
    vector = torch.randn(kept.shape[0])
    work: dict[str, Callable[[], object]] = {
        "gradient": lambda: [
            torch.autograd.grad(problem.loss(batch)[0], tensors) for batch in problem.batches
        ],
        "recomputed": lambda: recomputed @ vector,
        "kept": lambda: kept @ vector,
    }
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for repetition in range(repetitions + 1):
        for name, task in work.items():
            begin = time.process_time()
            task()
            if repetition:  # the first is a warm-up
                seconds[name].append(time.process_time() - begin)
    return {name: statistics.median(values) for name, values in seconds.items()}


def alone(method: str, problem: Problem, reference: float, seed: int) -> tuple[Run, float]:
    """Run a method in a separate process; return its result and its growth of peak memory in MB."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)

    def child() -> None:
        gc.collect()
        ctypes.CDLL("libc.so.6").malloc_trim(0)  # else freed memory of the parent hides the peak
        with open("/proc/self/clear_refs", "w") as file:  # reset the peak inherited by the fork
            file.write("5")
        with open("/proc/self/statm") as file:
            before = int(file.read().split()[1]) * resource.getpagesize()
        run = METHODS[method](problem, reference, seed)
        with open("/proc/self/status") as file:
            peak = next(int(line.split()[1]) for line in file if line.startswith("VmHWM"))
        sender.send((run, (peak * 1024 - before) / 2**20))

    process = context.Process(target=child)
    process.start()
    sender.close()
    try:
        return receiver.recv()
    except EOFError as error:
        raise RuntimeError(f"{method} failed with seed {seed}") from error
    finally:
        process.join()


def row(
    name: str, mine: float, peer: float, peer_name: str, unit: str, goal: float, at_least: bool
) -> dict[str, object]:
    """Return a row of the table. ``ratio`` is peer / ours if ``at_least``, else ours / peer."""
    ratio = peer / mine if at_least else mine / peer
    met = bool(ratio >= goal if at_least else ratio <= goal)
    return {
        "name": name,
        "ours": mine,
        "peer": peer,
        "peer_name": peer_name,
        "unit": unit,
        "ratio": ratio,
        "goal": f"{'>=' if at_least else '<='} {goal:g}",
        "met": met,
    }


def bench(size: str, repetitions: int) -> list[dict[str, object]]:
    """Run all methods on the model of one size."""
    problem = Problem(*SIZES[size])
    count = sum(tensor.numel() for tensor in problem.parameters.values())
    begin = time.process_time()
    reference = problem.reference()
    print(
        f"\n{size}: {count:,} parameters, largest eigenvalue {reference:.6f} "
        f"(float64, {time.process_time() - begin:.0f} s)",
        flush=True,
    )
    cost = product_cost(problem, max(repetitions, 5))
    runs: dict[str, list[Run]] = {name: [] for name in METHODS}
    memory: dict[str, float] = {}
    for seed in range(repetitions):
        for name in METHODS:  # alternating, so that load affects all alike
            run, peak = alone(name, problem, reference, seed)
            runs[name].append(run)
            memory[name] = max(memory.get(name, 0.0), peak)
    print(f"{'':22}{'reached 1e-3':>22}{'own stop':>22}{'its error':>12}{'peak MB':>10}")
    found = {name: median(values) for name, values in runs.items()}
    for name, run in found.items():
        print(
            f"{name:22}{run.reached_seconds:12.2f} s {run.reached_products:5.0f} p"
            f"{run.own_seconds:14.2f} s {run.own_products:5.0f} p{run.own_error:12.1e}"
            f"{memory[name]:10.0f}",
            flush=True,
        )
    rows = []
    for peer, goal in (("pyhessian", 5.0), ("hessian-eigenthings", 1.5)):
        for what in ("reached", "own"):
            mine, other = found["ours"], found[peer]
            label = "seconds to 1e-3 true error" if what == "reached" else "seconds to own stop"
            rows.append(
                row(
                    f"{size}: {label}",
                    getattr(mine, f"{what}_seconds"),
                    getattr(other, f"{what}_seconds"),
                    peer,
                    "s",
                    goal,
                    True,
                )
            )
        rows.append(
            row(
                f"{size}: products to 1e-3 true error",
                found["ours"].reached_products,
                found[peer].reached_products,
                peer,
                "products",
                1.0,
                True,
            )
        )
    for kind, goal in (("recomputed", 3.5), ("kept", 2.3)):
        rows.append(
            row(
                f"{size}: a product, graphs {kind}",
                cost[kind],
                cost["gradient"],
                "a gradient",
                "s",
                goal,
                False,
            )
        )
    return rows


def main() -> None:
    """Read the command line, run, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two small models, 3 repetitions")
    parser.add_argument("--sizes", nargs="+", choices=SIZES, help="only these models")
    parser.add_argument("--json", metavar="FILE", help="write the rows and the machine")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", message="Using backward.. with create_graph=True")
    plan = {"0.07M": 3, "0.1M": 3}
    if not arguments.quick:
        plan = {"0.07M": 5, "0.1M": 5, "1M": 3, "10M": 1}
    if arguments.sizes:
        plan = {size: plan.get(size, 1) for size in arguments.sizes}
    rows = [entry for size, repetitions in plan.items() for entry in bench(size, repetitions)]
    print(f"\n{'':38}{'ours':>10}{'peer':>10}  {'peer':22}{'ratio':>7}  goal")
    for entry in rows:
        print(
            f"{entry['name']:38}{entry['ours']:10.3f}{entry['peer']:10.3f}  "
            f"{entry['peer_name']:22}{entry['ratio']:7.2f}  {entry['goal']} "
            f"{'met' if entry['met'] else 'NOT MET'}"
        )
    if arguments.json:
        names = ("torch", "transformers", "scipy", "pyhessian", "hessian-eigenthings")
        # A peer that never came within the tolerance has no time: null.
        finite = [{k: None if v == float("inf") else v for k, v in entry.items()} for entry in rows]
        write_records(Path(arguments.json), finite, names)


if __name__ == "__main__":
    main()
