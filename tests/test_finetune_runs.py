"""Fine-tuning that is killed and goes on, and fine-tuning by several processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file
from test_finetune import Y_F, assert_close, pictures, weights

from cdlib.finetune import finetune
from cdlib.models import load_model
from cdlib.training import Ema, load_checkpoint, read_log, read_settings, save_checkpoint

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A pipeline and pictures on disk: the tiny tokenizer differs from process to process."""
    folder = tmp_path_factory.mktemp("shared")
    tiny.pocket_shaped().save_pretrained(folder / "m")
    images, m_pre = pictures()
    save_file({"images": images, "m_pre": m_pre}, folder / "pictures.safetensors")
    return folder


SCRIPT = """
    import json, os, signal, sys
    from pathlib import Path
    import torch
    from cdlib.finetune import finetune
    from cdlib.models import load_model
    from safetensors.torch import load_file

    torch.set_num_threads(1)
    folder, how = Path(sys.argv[1]), json.loads(sys.argv[2])

    def states():
        pipe = load_model(folder / "m", device="cpu")
        return finetune(pipe, **load_file(folder / "pictures.safetensors"), **how)
"""


def told(**how) -> dict:
    return {"y_f": Y_F, "batch_size": 4, "lr": 1e-3, "every": 2, **how}


def here(folder: Path, **how):
    pipe = load_model(folder / "m", device="cpu")
    return finetune(pipe, **load_file(folder / "pictures.safetensors"), **told(**how))


def script(tmp_path: Path, body: str) -> Path:
    path = tmp_path / "script.py"
    path.write_text(textwrap.dedent(SCRIPT) + textwrap.dedent(body))
    return path


def environment() -> dict[str, str]:
    quiet = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return {**os.environ, **quiet}


def same_tensors(a: Path, b: Path) -> None:
    assert_close(load_file(a), load_file(b), rtol=0, atol=0)


def without_seconds(path: Path) -> list[dict]:
    return [{k: v for k, v in row.items() if k != "seconds"} for row in read_log(path)]


KILLED = """
    replace, written = os.replace, []

    def replace_or_die(aside, path):
        written.append(path)
        if len(written) == 2:  # the second checkpoint is whole, but not yet in its place
            os.kill(os.getpid(), signal.SIGKILL)
        replace(aside, path)

    os.replace = replace_or_die
    for state in states():
        print(state.step, flush=True)
"""


@pytest.mark.parametrize(
    "options", [{}, {"lora_rank": 2, "precision": "fp16"}], ids=["all", "lora"]
)
def test_killed_while_it_saves_it_goes_on_to_the_same_bits(folder, tmp_path, options):
    how = {"steps": 5, **options}
    broken, whole = tmp_path / "broken.safetensors", tmp_path / "whole.safetensors"
    killed = subprocess.run(
        [sys.executable, script(tmp_path, KILLED), folder,
         json.dumps(told(checkpoint=str(broken), **how))],
        env=environment(), capture_output=True, text=True, timeout=540,
    )  # fmt: skip
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert killed.stdout.split() == ["2"] and (tmp_path / ".broken.part.safetensors").exists()
    resumed = list(here(folder, checkpoint=broken, **how))
    assert [state.step for state in resumed] == [4, 5]
    uninterrupted = list(here(folder, checkpoint=whole, **how))
    same_tensors(broken, whole)
    assert without_seconds(broken) == without_seconds(whole)
    assert [row["step"] for row in resumed[-1].log] == [2, 4, 5]
    for ema in (False, True):
        a, b = (states[-1].pipeline(ema).unet for states in (resumed, uninterrupted))
        assert_close(weights(a), weights(b), rtol=0, atol=0)


def test_a_run_left_at_any_step_ends_the_same(folder, tmp_path):
    whole, broken = tmp_path / "whole.safetensors", tmp_path / "broken.safetensors"
    list(here(folder, steps=4, every=1, checkpoint=whole))
    for _ in range(4):
        loop = here(folder, steps=4, every=1, checkpoint=broken)
        next(loop)
        loop.close()
    same_tensors(whole, broken)
    (done,) = here(folder, steps=4, every=1, checkpoint=broken)  # nothing is left to do
    assert done.step == 4 and len(done.log) == 4
    (further,) = here(folder, steps=5, every=1, checkpoint=broken)
    assert further.step == 5


def test_a_checkpoint_of_another_run_is_refused_at_once(folder, tmp_path):
    path = tmp_path / "run.safetensors"
    list(here(folder, steps=2, checkpoint=path))
    others = {
        "lr": 1e-4,
        "p": 0.4,
        "seed": 1,
        "noise": "rectangle",
        "lora_rank": 2,
        "y_b": "a photo of the beach",
        "precision": "fp16",  # which "auto" is on no machine
        "flip": False,
    }
    for name, value in others.items():
        with pytest.raises(ValueError, match=f"{name}=.* was begun with"):
            here(folder, steps=4, checkpoint=path, **{name: value})
    with pytest.raises(ValueError, match="steps=1: .* is at step 2 already"):
        here(folder, steps=1, checkpoint=path)
    pipe, pair = load_model(folder / "m", device="cpu"), pictures()
    with pytest.raises(ValueError, match="data=.* was begun with"):
        finetune(pipe, 1 - pair[0], pair[1], **told(checkpoint=path))
    with torch.no_grad():
        pipe.unet.conv_in.bias += 0.1
    with pytest.raises(ValueError, match="model=.* was begun with"):
        finetune(pipe, *pair, **told(checkpoint=path))
    assert read_settings(path)["lr"] == 1e-3


def test_a_checkpoint_of_adapters_holds_adapters_alone(folder, tmp_path):
    path = tmp_path / "run.safetensors"
    (state,) = here(folder, steps=2, lora_rank=2, checkpoint=path)
    names = [name for name in load_file(path) if name.startswith("model.")]
    assert names and all("lora_" in name for name in names)


TWO = """
    import torch.distributed as dist
    rows = [[state.step, state.loss, state.loss_f, state.loss_b] for state in states()]
    out = {"rows": rows, "processes": dist.get_world_size() if dist.is_initialized() else 1}
    Path(how["checkpoint"]).with_suffix(f".{os.environ['RANK']}.json").write_text(json.dumps(out))
    dist.destroy_process_group()
"""


def test_two_processes_learn_what_one_does(folder, tmp_path):
    how = {"steps": 6, "batch_size": 8, "precision": "fp32", "accumulate": 2}
    two, one = tmp_path / "two.safetensors", tmp_path / "one.safetensors"
    launch = [
        *(sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu"),
        *("--num_processes", "2", "--num_machines", "1", "--main_process_port", "0"),
        *("--mixed_precision", "no", "--dynamo_backend", "no"),
    ]
    arguments = [folder, json.dumps(told(checkpoint=str(two), **how))]
    launched = subprocess.Popen(
        [*launch, script(tmp_path, TWO), *arguments], env=environment(), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip
    try:
        said, _ = launched.communicate(timeout=540)
    finally:
        if launched.poll() is None:
            os.killpg(launched.pid, signal.SIGKILL)  # both workers, too
    assert launched.returncode == 0, said
    ranks = [json.loads(two.with_suffix(f".{rank}.json").read_text()) for rank in (0, 1)]
    assert ranks[0] == ranks[1] and ranks[0]["processes"] == 2
    alone = list(here(folder, checkpoint=one, **how))
    rows = [[s.step, s.loss, s.loss_f, s.loss_b] for s in alone]
    for shared, single in zip(ranks[0]["rows"], rows, strict=True):
        assert shared == pytest.approx(single, rel=1e-3)
    assert_close(load_file(two), load_file(one), rtol=1e-2, atol=1e-3)


def test_moments_come_back_in_the_layout_of_their_weights(tmp_path):
    """The fused optimiser pairs weights and moments by their place in memory."""

    def learner():
        torch.manual_seed(0)
        net = torch.nn.Conv2d(3, 5, 3).to(memory_format=torch.channels_last)
        return net, Ema(net), torch.optim.AdamW(net.parameters(), lr=1e-2, fused=True)

    def learn(net, optimizer, step):
        x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        net(x).square().mean().backward()
        optimizer.step()

    path = tmp_path / "net.safetensors"
    net, ema, optimizer = learner()
    for step in range(4):
        if step == 2:
            save_checkpoint(path, net, ema, optimizer, step, [], {})
        learn(net, optimizer, step)
    again, ema, optimizer = learner()
    assert load_checkpoint(path, again, ema, optimizer, {})[0] == 2
    for step in (2, 3):
        learn(again, optimizer, step)
    assert torch.equal(net.weight, again.weight)
