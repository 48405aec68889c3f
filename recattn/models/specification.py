"""A model as plain data, its class and its arguments, and back."""

import importlib
import inspect
from collections.abc import Callable
from numbers import Integral, Real
from typing import Any, Unpack, get_args, get_origin

from torch import nn

from recattn.errors import ConfigError
from recattn.models.ranker import Ranker

Specification = dict[str, Any]
"""``{"class_path": "recattn.models.TargetAttention", "init_args": {...}}``, nested where an argument is a module."""


def describe(module: nn.Module) -> Specification:
    """What rebuilds the module: each constructor argument is read from the attribute of the same name.

    That attributes carry the arguments' names is this package's rule for layers and models; weights are not included.
    Raises ConfigError for a module that breaks the rule.

    >>> from recattn.nn import BilinearScorer
    >>> describe(BilinearScorer(3, 5))
    {'class_path': 'recattn.nn.BilinearScorer', 'init_args': {'query_dim': 3, 'key_dim': 5}}
    """
    kind = type(module)
    arguments: dict[str, Any] = {}
    for name, parameter in inspect.signature(kind).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue  # a layer without arguments of its own shows nn.Module's
        if not hasattr(module, name):
            raise ConfigError(
                f"{kind.__name__} does not keep its argument {name!r} as an attribute, so it can't be saved"
            )
        value = getattr(module, name)
        if isinstance(value, nn.Module):
            value = describe(value)
        arguments[name] = [_plain(one) for one in value] if isinstance(value, tuple) else _plain(value)
    # Layers and models are named by the package that exports them: files may move behind it.
    package = ".".join(kind.__module__.split(".")[:2]) if kind.__module__.startswith("recattn.") else kind.__module__
    return {"class_path": f"{package}.{kind.__name__}", "init_args": arguments}


def _plain(value: Any) -> Any:  # noqa: ANN401 - any argument
    """Numpy's numbers, which layers take and YAML does not, as Python's."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return value
    return int(value) if isinstance(value, Integral) else float(value)


def build(specification: Specification, **overrides: object) -> nn.Module:
    """The module that a specification describes, freshly initialised.

    Only names inside recattn are followed, and only functions and classes that make modules are called: a
    specification may come from a file that somebody else wrote.

    overrides: arguments set or replaced at the outermost level.
    Raises ConfigError for a name that recattn does not have, and for arguments that the constructor does not take.

    >>> build({"class_path": "recattn.nn.DotScorer", "init_args": {}})
    DotScorer()
    """
    if not isinstance(specification, dict) or not isinstance(specification.get("class_path"), str):
        raise ConfigError(f"a specification has a class_path and init_args, got {specification!r}")
    path = specification["class_path"]
    factory = find_factory(path)
    given = specification.get("init_args") or {}
    if not isinstance(given, dict):
        raise ConfigError(f"init_args of {path} must be a mapping from names to values, got {given!r}")
    given = {**given, **overrides}
    arguments = {
        name: build(value) if isinstance(value, dict) and "class_path" in value else value
        for name, value in given.items()
    }
    named = parameters_of(factory)
    try:
        inspect.Signature(named).bind(**arguments)
    except TypeError as error:
        allowed = ", ".join(p.name for p in named) or "nothing"
        raise ConfigError(f"{path}: {error}; it takes {allowed}") from error
    return factory(**arguments)


def build_ranker(specification: Specification, **overrides: object) -> Ranker:
    """`build` of what must be a model. Raises ConfigError for a layer too.

    >>> build_ranker({"class_path": "recattn.nn.DotScorer"})
    Traceback (most recent call last):
    recattn.errors.ConfigError: recattn.nn.DotScorer is a layer, not a model
    """
    model = build(specification, **overrides)
    if not isinstance(model, Ranker):
        raise ConfigError(f"{specification['class_path']} is a layer, not a model")
    return model


def parameters_of(factory: Callable[..., nn.Module]) -> list[inspect.Parameter]:
    """The arguments that a class or preset function takes; those of a preset's typed options stand among them.

    >>> from recattn.nn import BilinearScorer
    >>> [parameter.name for parameter in parameters_of(BilinearScorer)]
    ['query_dim', 'key_dim']
    """
    named = []
    for parameter in inspect.signature(factory).parameters.values():
        if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            named.append(parameter)
        elif get_origin(parameter.annotation) is Unpack:
            (options,) = get_args(parameter.annotation)
            named += [inspect.Parameter(name, parameter.KEYWORD_ONLY, default=None) for name in options.__annotations__]
        # A layer without a constructor of its own shows nn.Module's, which takes anything and then refuses.
    return named


def find_factory(path: str) -> Callable[..., nn.Module]:
    """The class or preset function that ``recattn.<package>.<Name>`` names. Raises ConfigError where there is none."""
    module_name, _, name = path.rpartition(".")
    if module_name not in ("recattn.models", "recattn.nn"):
        raise ConfigError(
            f"{path!r} is not a model of recattn: expected recattn.models.NAME, with layers recattn.nn.NAME"
        )
    module = importlib.import_module(module_name)
    factory: Any = getattr(module, name, None) if name in module.__all__ else None
    if not _makes(factory, nn.Module):
        raise ConfigError(f"{path!r} does not exist: {module_name} has {', '.join(sorted(module.__all__))}")
    found: Callable[..., nn.Module] = factory
    return found


def model_path(name: str) -> str:
    """The full path of a model's class or preset function: of ``DIN``, ``recattn.DIN`` and ``recattn.models.DIN``.

    Raises ConfigError, which lists the models, where there is none.

    >>> model_path("DIN")
    'recattn.models.DIN'
    """
    module = importlib.import_module("recattn.models")
    names = sorted(short for short in module.__all__ if _makes(getattr(module, short), Ranker))
    package, _, short = name.rpartition(".")
    if package not in ("", "recattn", "recattn.models") or short not in names:
        raise ConfigError(f"{name!r} is not a model of recattn; these are: {', '.join(names)}")
    return f"recattn.models.{short}"


def _makes(factory: object, kind: type[nn.Module]) -> bool:
    """Whether this is a class of the kind, or a function that is annotated to return one; the kind itself is none."""
    makes = inspect.signature(factory).return_annotation if inspect.isfunction(factory) else factory
    return inspect.isclass(makes) and issubclass(makes, kind) and makes is not kind and not inspect.isabstract(makes)
