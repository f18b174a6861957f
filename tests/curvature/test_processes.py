"""Two processes with uneven shares give what one gives with all batches."""

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from ntpctp._core.errors import InputError
from ntpctp.curvature import HessianOperator, MeanLoss, top_eigenvalues
from tests.curvature.curvature_references import bigram

SHARES = [slice(0, 1), slice(1, 2)]  # 7 and 2 supervised tokens


def _process(rank, directory):
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{directory}/store", rank=rank, world_size=2
    )
    assert dist.get_world_size() == 2
    problem, group = bigram(), dist.group.WORLD
    share = problem.batches[SHARES[rank]]
    operator = HessianOperator(problem.loss, problem.parameters, share, process_group=group)
    result = top_eigenvalues(operator, seed=0, relative_tolerance=1e-8)
    # A process without a batch takes part all the same.
    first_only = share if rank == 0 else []
    lopsided = MeanLoss(problem.loss, problem.parameters, first_only, process_group=group)

    def bad_on_the_first_process(batch):
        loss_sum, weight = problem.loss(batch)
        return loss_sum * (torch.nan if rank == 0 else 1), weight

    refused = None
    try:
        MeanLoss(bad_on_the_first_process, problem.parameters, share, process_group=group)
    except InputError as error:
        refused = str(error)
    found = {
        "value": result.value,
        "loss": operator.mean_loss.value,
        "weight": operator.mean_loss.total_weight,
        "gradient": operator.gradient,
        "lopsided": lopsided.value,
        "refused": refused,
    }
    torch.save(found, f"{directory}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_sums_and_divides_over_processes(tmp_path):
    mp.spawn(_process, (str(tmp_path),), nprocs=2)

    problem = bigram()
    alone = HessianOperator(*problem.arguments)
    value = top_eigenvalues(alone, seed=0, relative_tolerance=1e-8).value
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert first["value"] == second["value"]
    for found in (first, second):
        torch.testing.assert_close(found["value"], value, rtol=1e-12, atol=0)
        torch.testing.assert_close(found["loss"], alone.mean_loss.value, rtol=1e-14, atol=0)
        assert found["weight"] == 9
        torch.testing.assert_close(found["gradient"], alone.gradient, rtol=1e-12, atol=1e-15)
    only_first = float(problem.loss(problem.batches[0])[0].detach()) / 7
    assert first["lopsided"] == second["lopsided"]
    torch.testing.assert_close(first["lopsided"], only_first, rtol=1e-14, atol=0)
    assert "the loss of batch 0 is nan" in first["refused"]
    assert "another process rejected its batches" in second["refused"]
