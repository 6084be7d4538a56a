"""Parameters: what is wrong is rejected, named with what is allowed and the nearest right name."""

from __future__ import annotations

import subprocess
import sys
from time import perf_counter

import papermill
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdlib.params import (
    CHAPTERS,
    PRESETS,
    ParameterError,
    check_parameters,
    parameters_cell,
    preset_numbers,
)

CHAPTER = "02_attention"


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("stpes", 20, ["stpes", "20", "'steps'"]),
        ("t_0", 20, ["t_0", "'t0'"]),
        ("seed", 1.5, ["seed", "1.5", "float", "an int from 0"]),
        ("seed", True, ["seed", "True", "bool"]),
        ("seed", "3", ["seed", "'3'", "str"]),
        ("seed", -1, ["seed", "-1", "from 0"]),
        ("steps", 1001, ["steps", "1001", "1000"]),
        ("steps", None, ["steps", "None"]),
        ("difficulty", 1.01, ["difficulty", "1.01", "from 0.0 to 1.0"]),
        ("difficulty", float("nan"), ["difficulty", "nan"]),
        ("concept", "brid", ["concept", "'brid'", "'bird'", "balloon"]),
        ("concept", 1, ["concept", "1", "int"]),
        ("preset", "Quick", ["preset", "'Quick'", "'quick'"]),
        ("model", "pocet", ["model", "'pocet'", "'pocket'", "owner/name"]),
        ("device", "gpu", ["device", "'gpu'", "cuda"]),
        ("rule", "otsou", ["rule", "'otsou'", "'otsu'"]),
    ],
)
def test_wrong_parameter_is_named_with_what_is_allowed(name, value, says):
    with pytest.raises(ParameterError) as error:
        check_parameters({name: value}, CHAPTER)
    assert isinstance(error.value, ValueError)
    assert all(word in str(error.value) for word in says), str(error.value)


def test_right_parameters_pass_in_their_own_type():
    p = check_parameters(
        {"difficulty": 1, "model": "CompVis/stable-diffusion-v1-4", "device": "cuda:1"}, CHAPTER
    )
    assert p.difficulty == 1.0 and type(p.difficulty) is float
    assert p.model == "CompVis/stable-diffusion-v1-4" and p.device == "cuda:1"


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("chapter", CHAPTERS)
def test_preset_fills_what_was_left_to_it(chapter, preset):
    p = vars(check_parameters({"preset": preset}, chapter))
    assert p["model"] == PRESETS[preset]["model"]
    numbers = preset_numbers(preset, chapter)
    for name in set(p) & set(numbers):
        assert p[name] == numbers[name]


def test_a_chapter_may_have_numbers_of_its_own():
    p = check_parameters({"preset": "book"}, "08_medical")
    assert p.n_train < PRESETS["book"]["n_train"]
    assert check_parameters({"preset": "book", "n_train": 7}, "08_medical").n_train == 7


def test_own_number_wins_over_the_preset():
    assert check_parameters({"preset": "quick", "n_images": 3}, CHAPTER).n_images == 3


def test_paper_averages_forty_of_fifty():
    p = check_parameters({"preset": "paper"}, CHAPTER)
    assert (p.t0, p.steps) == (40, 50)


@given(steps=st.integers(1, 1000), t0=st.integers(1, 1000))
def test_t0_never_exceeds_steps(steps, t0):
    if t0 <= steps:
        assert check_parameters({"steps": steps, "t0": t0}, CHAPTER).t0 == t0
        assert 1 <= check_parameters({"steps": steps}, CHAPTER).t0 <= steps
    else:
        with pytest.raises(ParameterError, match="t0"):
            check_parameters({"steps": steps, "t0": t0}, CHAPTER)


def test_what_makes_m_prime_is_asked_alike_wherever_it_is_used():
    made, used = (check_parameters({"preset": "book"}, c) for c in ("03_finetuning", "04_removal"))
    shared = ("n_train", "finetune_steps", "batch_size", "learning_rate", "lora_rank", "steps")
    assert all(getattr(made, name) == getattr(used, name) for name in shared)
    assert check_parameters({"learning_rate": 3e-4}, "03_finetuning").learning_rate == 3e-4
    with pytest.raises(ParameterError, match="learning_rate = 1.0"):
        check_parameters({"learning_rate": 1}, "03_finetuning")


def test_the_sweep_of_guidance_rises():
    with pytest.raises(ParameterError, match="s_low = 2.0 .* less than s_high = 1.0"):
        check_parameters({"s_low": 2.0, "s_high": 1.0}, "03_finetuning")


@pytest.mark.parametrize("chapter_name", CHAPTERS)
def test_no_parameter_is_named_as_the_checked_ones_are(chapter_name):
    assert "p" not in {one.name for one in CHAPTERS[chapter_name]}


def test_a_scheduler_is_named_as_diffusers_does():
    given = {"scheduler": "HeunDiscreteScheduler"}
    assert check_parameters(given, "04_removal").scheduler == "HeunDiscreteScheduler"
    with pytest.raises(ParameterError, match="DDIMScheduler"):
        check_parameters({"scheduler": "ddim"}, "04_removal")


def test_a_preset_takes_steps_again_with_ddim_alone():
    assert check_parameters({}, "04_removal").resample > 1
    assert check_parameters({"scheduler": "PNDMScheduler"}, "04_removal").resample == 1
    assert check_parameters({"resample": 5}, "04_removal").resample == 5


def test_unknown_chapter_is_named():
    with pytest.raises(ParameterError, match="02_attention"):
        check_parameters({}, "02_atention")


@pytest.mark.parametrize("chapter_name", CHAPTERS)
def test_help_lists_type_and_meaning_of_every_parameter(chapter_name, chapter):
    listed = papermill.inspect_notebook(str(chapter(chapter_name)))
    assert list(listed) == [one.name for one in CHAPTERS[chapter_name]]
    for one in CHAPTERS[chapter_name]:
        assert listed[one.name]["inferred_type_name"] == one.type.__name__
        assert listed[one.name]["help"] == one.meaning


@pytest.mark.parametrize("chapter_name", CHAPTERS)
def test_every_default_is_allowed(chapter_name):
    namespace: dict = {}
    exec(parameters_cell(chapter_name), namespace)
    check_parameters({k: v for k, v in namespace.items() if not k.startswith("__")}, chapter_name)


def test_importing_the_library_and_checking_loads_no_torch():
    code = (
        "import sys, cdlib; cdlib.check_parameters({}, '02_attention'); "
        "assert not {'torch', 'diffusers', 'matplotlib'} & set(sys.modules)"
    )
    started = perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    assert perf_counter() - started < 5


def run(notebook, **parameters):
    copy = notebook.with_suffix(".out.ipynb")
    papermill.execute_notebook(notebook, copy, parameters, progress_bar=False)
    return copy


def test_papermill_stops_at_an_unknown_parameter(chapter):
    notebook = chapter(CHAPTER, ("code", "raise SystemError('reached')"))
    with pytest.raises(papermill.PapermillExecutionError) as error:
        run(notebook, stpes=20)
    assert error.value.ename == "ParameterError"
    assert "stpes" in error.value.evalue and "'steps'" in error.value.evalue
    assert len(str(error.value).strip().splitlines()) <= 4


def test_papermill_passes_what_is_known(chapter):
    notebook = chapter(CHAPTER, ("code", "assert (p.steps, p.concept) == (20, 'car')"))
    run(notebook, steps=20, concept="car")


def test_the_check_can_be_run_again_in_a_used_notebook(chapter):
    again = f'n_words = 3\nprint(n_words)\ncdlib.check_parameters(globals(), "{CHAPTER}")'
    notebook = chapter(CHAPTER, ("code", "n_words = 3\nprint(n_words)"), ("code", again))
    run(notebook, seed=4)
