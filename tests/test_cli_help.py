"""Test help, short names of options, and completion."""

import dataclasses
import re
import shutil
import subprocess

import pytest

from jaxrec import presets
from jaxrec.cli import COMMANDS, train_help
from jaxrec.cli.arguments import options_of
from jaxrec.cli.completion import script, words
from jaxrec.cli.data import COMMANDS as DATA
from jaxrec.cli.train import Resume, configured, train
from jaxrec.errors import InputError


def test_help_of_train_shows_presets_examples_and_the_common_options_alone(capsys):
    train(["mf", "--help"])
    shown = capsys.readouterr().out
    assert all(re.search(rf"^  {name} ", shown, re.M) for name in ("quickstart", "gowalla-fast"))
    assert shown.count("  jaxrec train") == 3
    options = re.findall(r"^  (?:--[\w-]+, )?(--[\w.-]+)", shown, re.M)
    assert 15 <= len(options) <= 25
    assert len(set(options)) == len(options)
    assert set(options) <= set(options_of(train))
    assert re.search(rf"--epochs, --train.epochs N .* \({presets.get('mf').train.epochs}\)", shown)
    assert "--help-all" in shown


def test_examples_in_the_help_of_train_are_arguments_it_takes():
    for command, _ in train_help._EXAMPLES:
        configured(command.split()[2:])


def test_every_option_is_behind_help_all(capsys):
    with pytest.raises(SystemExit):
        train(["--help-all"])
    shown = capsys.readouterr().out
    assert all(name in shown for name in ("--filter.user-core", "--mesh.exchange", "--lr is"))


def test_short_names_set_the_options_they_stand_for():
    asked = configured(["mf", "--epochs", "3", "--lr=0.25", "--dim", "12", "--batch_size", "99"])
    config = asked.config
    assert (config.train.epochs, config.optim.learning_rate) == (3, 0.25)
    assert (config.model.dim, config.train.batch_size) == (12, 99)


@pytest.mark.parametrize(("name", "alias"), train_help.ALIASES.items())
def test_an_option_by_both_of_its_names_is_refused_in_a_line(name, alias):
    with pytest.raises(InputError, match=f"{alias} and {name} are the same option") as told:
        configured([alias, "3", f"--{name[2:].replace('-', '_')}=4"])
    assert "\n" not in str(told.value)


def test_a_misspelt_short_name_is_told_the_nearest():
    with pytest.raises(InputError, match="'--epochs'"):
        configured(["--epohcs", "3"])


def test_no_option_of_a_command_is_called_like_a_short_name():
    assert not set(train_help.ALIASES.values()) & set(options_of(train))
    assert "epochs" not in {f.name for f in dataclasses.fields(Resume)}


def test_options_of_every_command_are_found_without_running_it():
    found = words(COMMANDS)
    assert set(found) == set(COMMANDS) | {f"data {name}" for name in DATA}
    for name, known in {
        "resume": ("--train.epochs", ()),
        "export": ("--out", ()),
        "data import": ("--keep", ("last", "first")),
        "train": ("--split.no-per-user", ()),
    }.items():
        assert found[name].options[known[0]] == known[1]
    assert "bpr" in found["train"].options["--loss.name"]
    assert set(found["sweep"].options) >= {"--sampler", "--loss.name", "--lr"}


TYPED = [
    ("tr", {"train"}),
    ("train light", {"lightgcn", "lightgcn-gowalla"}),
    ("train mf --loss.na", {"--loss.name"}),
    ("train --loss.name bp", {"bpr"}),
    ("data imp", {"import"}),
    ("data import x --keep l", {"last"}),
    ("completion z", {"zsh"}),
]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete_commands_presets_options_and_values(shell, tmp_path):
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    (tmp_path / "jaxrec").write_text(script(shell, COMMANDS))
    program = ["source ./jaxrec"]
    if shell == "zsh":  # zsh's bashcompinit calls the functions in this way
        program.append("emulate sh; setopt kshglob noshglob braceexpand")
    for typed, _ in TYPED:
        if shell == "fish":
            program.append(f"complete -C 'jaxrec {typed}' | string replace -r '\\t.*' ''; echo =")
        else:
            program += [
                f"COMP_WORDS=(jaxrec {typed}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))",
                "_jaxrec; printf '%s\\n' \"${COMPREPLY[@]}\" =",
            ]
    done = subprocess.run(
        [shell, "-c", "\n".join(program)], capture_output=True, text=True, cwd=tmp_path
    )
    found = [set(part.split()) for part in done.stdout.split("=")[:-1]]
    if shell == "zsh":  # zsh itself drops completions that do not begin with the word typed
        starts = [typed.split()[-1] for typed, _ in TYPED]
        found = [
            {word for word in offered if word.startswith(start)}
            for offered, start in zip(found, starts, strict=True)
        ]
    assert found == [values for _, values in TYPED], done.stderr
