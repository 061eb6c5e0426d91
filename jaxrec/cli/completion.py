"""``jaxrec completion``: scripts to complete commands, options and their values in a shell."""

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from tyro.conf import Positional

from jaxrec import presets, registry
from jaxrec.cli.arguments import options_of, parse
from jaxrec.cli.data import COMMANDS as DATA
from jaxrec.cli.train import train
from jaxrec.cli.train_help import ALIASES, HELP_ALL

Shell = Literal["bash", "zsh", "fish"]
_EVERYWHERE = ("--help", "--debug", "--plugin")


@dataclass(frozen=True)
class Completion:
    """Print the script that completes jaxrec's commands and options in a shell.

    bash: jaxrec completion bash > ~/.local/share/bash-completion/completions/jaxrec

    zsh: echo 'source <(jaxrec completion zsh)' >> ~/.zshrc

    fish: jaxrec completion fish > ~/.config/fish/completions/jaxrec.fish
    """

    shell: Positional[Shell]


@dataclass(frozen=True)
class Words:
    """The words that can follow a command.

    Attributes:
      first: choices of the first argument; if empty, files are completed.
      options: the command's options, each with its choices; if an option has no choices, files are
        completed.
    """

    first: tuple[str, ...]
    options: Mapping[str, tuple[str, ...]]


def words(commands: Mapping[str, Callable[[list[str]], Any]]) -> dict[str, Words]:
    """Collect the words that can follow each command, including sub-commands (``data import``)."""
    named = {
        "--model.name": registry.MODELS,
        "--loss.name": registry.LOSSES,
        "--negatives.name": registry.NEGATIVES,
        "--optim.name": registry.OPTIMIZERS,
        "--eval.metric": registry.METRICS,
    }
    of_train = options_of(train) | dict.fromkeys(ALIASES.values(), ())
    of_train |= {option: tuple(names.names()) for option, names in named.items()}
    first: dict[str, tuple[str, ...]] = {
        "data": tuple(DATA),
        "completion": Shell.__args__,
        "train": tuple(presets.all_presets()),
        "sweep": tuple(presets.all_presets()),
    }
    more = {"train": {**of_train, HELP_ALL: ()}, "sweep": of_train}
    every = dict.fromkeys(_EVERYWHERE, ())
    found = {
        name: Words(first.get(name, ()), options_of(command) | more.get(name, {}) | every)
        for name, command in commands.items()
    }
    return found | {
        f"data {name}": Words((), options_of(command) | every) for name, command in DATA.items()
    }


_BASH = """\
_jaxrec() {{
  local current=${{COMP_WORDS[COMP_CWORD]}} previous=${{COMP_WORDS[COMP_CWORD-1]}}
  local command=${{COMP_WORDS[1]}} at=2 first= options= values=
  if [[ $command == data && $COMP_CWORD -gt 2 ]]; then
    command="data ${{COMP_WORDS[2]}}" at=3
  fi
  case $command in
{cases}
  esac
  if [[ $COMP_CWORD -eq 1 ]]; then
    values={commands}
  elif [[ $current == -* ]]; then
    values=$options
  elif [[ $COMP_CWORD -eq $at ]]; then
    values=$first
  fi
  COMPREPLY=($(compgen -W "$values" -- "$current"))
}}
complete -o default -F _jaxrec jaxrec
"""
_ZSH = """\
(( $+functions[compdef] )) || { autoload -U +X compinit && compinit }
autoload -U +X bashcompinit && bashcompinit
"""


def _bash(found: Mapping[str, Words]) -> str:
    cases = []
    for name, one in found.items():
        listed = " ".join(one.options)
        cases.append(f"    {shlex.quote(name)})")
        cases.append(
            f"      first={shlex.quote(' '.join(one.first))} options={shlex.quote(listed)}"
        )
        chosen = {option: values for option, values in one.options.items() if values}
        if chosen:
            cases.append("      case $previous in")
            cases += [
                f"        {option}) values={shlex.quote(' '.join(values))} ;;"
                for option, values in chosen.items()
            ]
            cases.append("      esac")
        cases.append("      ;;")
    commands = shlex.quote(" ".join(name for name in found if " " not in name))
    return _BASH.format(cases="\n".join(cases), commands=commands)


def _fish(found: Mapping[str, Words]) -> str:
    lines = ["set -l at_start 'test (count (commandline -opc)) -eq 1'"]
    for name, one in found.items():
        parts = name.split()
        here = "; and ".join(
            f'test "$(commandline -opc)[{n}]" = {part}' for n, part in enumerate(parts, 2)
        )
        if len(parts) == 1:
            lines.append(f"complete -c jaxrec -n $at_start -f -a {name}")
        if one.first:
            second = f"test (count (commandline -opc)) -eq 2; and {here}"
            lines.append(f"complete -c jaxrec -n '{second}' -f -a '{' '.join(one.first)}'")
        for option, values in one.options.items():
            chosen = f" -x -a '{' '.join(values)}'" if values else ""
            lines.append(f"complete -c jaxrec -n '{here}' -l {option.removeprefix('--')}{chosen}")
    return "\n".join(lines) + "\n"


def script(shell: Shell, commands: Mapping[str, Callable[[list[str]], Any]]) -> str:
    """Return a shell's completion script for the given commands."""
    found = words(commands)
    if shell == "fish":
        return _fish(found)
    return (_ZSH if shell == "zsh" else "") + _bash(found)


def asked_shell(args: list[str]) -> Shell:
    """Parse the arguments of ``jaxrec completion`` and return the shell."""
    return parse(Completion, args, "jaxrec completion").shell
