"""The command line: flags to the functions of `recattn.commands`, and what goes wrong to one line."""

import inspect
import os
import sys
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

from recattn import commands
from recattn.errors import RecattnError

COMMANDS: dict[str, Callable[..., None]] = {
    "data": commands.data,
    "train": commands.train,
    "evaluate": commands.evaluate,
    "recommend": commands.recommend,
    "score": commands.score,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command. Returns 0, or 2 for a mistake of the user's (one line on standard error), or 130 for ctrl-C."""
    # Large tensors in large pages, where the system has them (SASRec trains a tenth faster). torch looks at it once.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    given = [_underscored(argument) for argument in (sys.argv[1:] if arguments is None else arguments)]
    try:
        parsed = _parser(train="train" in given).parse_args(_model_first(given))
        name = parsed.command
        # null in a YAML file is what is not given.
        chosen = {flag: value for flag, value in parsed[name].as_dict().items() if value is not None}
        chosen.pop("config", None)
        COMMANDS[name](**chosen)
    except (RecattnError, OSError) as error:
        print(f"recattn: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("recattn: interrupted; a training goes on from its last epoch with --resume", file=sys.stderr)
        return 130
    return 0


def _parser(*, train: bool) -> Any:  # noqa: ANN401 - jsonargparse has no types
    """The parser; ``train`` says whether models' arguments are needed, for which torch has to be loaded."""
    from docstring_parser import parse
    from jsonargparse import ActionYesNo, ArgumentParser, set_loader
    from yaml import YAMLError

    import recattn

    parser = ArgumentParser(
        prog="recattn", description="Recommendation as retrieval by attention.", version=recattn.__version__
    )
    subcommands = parser.add_subcommands(dest="command")
    for name, function in COMMANDS.items():
        text = parse(function.__doc__ or "")
        command = ArgumentParser(description=text.short_description)
        explained = {entry.arg_name: entry.description for entry in text.params}
        if name == "train" and train:
            from recattn.models import Ranker

            command.add_argument("--config", action="config", help="YAML file with any of these; flags override it")
            command.add_subclass_arguments(
                Ranker,
                "model",
                skip=set(OF_THE_DATA),
                required=False,
                instantiate=False,
            )
        by_hand: set[str | int] = {"model"}
        for argument, parameter in inspect.signature(function).parameters.items():
            if argument in POSITIONAL:
                command.add_argument(argument, type=str, nargs=POSITIONAL[argument], help=explained[argument])
            elif parameter.annotation in (bool, bool | None):
                default, shown = parameter.default, explained[argument]
                command.add_argument(f"--{argument}", action=ActionYesNo(no_prefix="no_"), default=default, help=shown)
            elif parameter.annotation == str | None:  # as text: "str | None" would make null of "#5" and "~"
                command.add_argument(f"--{argument}", type=str, default=None, help=explained[argument])
            else:
                continue
            by_hand.add(argument)
        command.add_function_arguments(function, skip=by_hand, as_group=False, as_positional=False)
        subcommands.add_subcommand(name, command, help=text.short_description)
    if train:
        set_loader("configuration", _configuration, (YAMLError,))
        parser.parser_mode = "configuration"
    return parser


def _configuration(text: str) -> Any:  # noqa: ANN401 - whatever YAML holds
    """YAML, in which a model may have its short name."""
    from jsonargparse import get_loader

    value = get_loader("yaml")(text)
    model = value.get("model") if isinstance(value, dict) else None
    if isinstance(model, str):
        value["model"] = _full(model)
    elif isinstance(model, dict) and isinstance(model.get("class_path"), str):
        model["class_path"] = _full(model["class_path"])
    return value


def _full(model: str) -> str:
    from recattn.models import model_path

    return model_path(model)


OF_THE_DATA = ("num_items", "rating_levels", "profile_sizes", "context_sizes", "feature_sizes", "feature_widths")
"""Arguments of models that follow from the data."""
POSITIONAL: dict[str, Any] = {"name": "?", "run": None, "runs": "+"}
"""Arguments that are given without a flag, and how many of them."""


def _underscored(argument: str) -> str:
    """--user-column may be written for --user_column."""
    flag, equals, value = argument.partition("=")
    return flag.replace("-", "_").replace("__", "--", 1) + equals + value if flag.startswith("--") else argument


def _model_first(arguments: list[str]) -> list[str]:
    """``train`` with the model's full name, or the file that holds it, before the model's arguments.

    The parser reads them in this order.
    ``train --model.dim 32`` alone means the default model's, which is another one for click tables.

    >>> _model_first(["train", "--model.dim", "32", "--model", "DIN"])
    ['train', '--model', 'recattn.models.DIN', '--model.dim', '32']
    """
    if arguments[:1] != ["train"]:
        return arguments
    chosen: list[str] = []
    others: list[str] = []
    words = iter(arguments[1:])
    for word in words:
        if word == "--model":
            chosen += [word, *map(_full, islice(words, 1))]
        elif word.startswith("--model="):
            chosen.append("--model=" + _full(word.removeprefix("--model=")))
        elif word == "--config":
            chosen += [word, *islice(words, 1)]
        else:
            (chosen if word.startswith("--config=") else others).append(word)
    tabled = "--layout clicks" in " ".join(others).replace("=", " ")
    default = commands.DEFAULT_TABLE_MODEL if tabled else commands.DEFAULT_MODEL
    return ["train", *(chosen or [f"--model={default}"]), *others]


if __name__ == "__main__":
    sys.exit(main())
