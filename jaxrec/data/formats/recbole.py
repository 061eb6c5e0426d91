"""Reads RecBole's atomic files, and the basic settings of the YAML file beside them.

The YAML file has the name of the data set: ``shop.yaml`` beside ``shop.inter``. It may name the
columns (``USER_ID_FIELD`` and so on), the columns to load (``load_col``, ``unload_col``), the
separators, the files of a split (``benchmark_filename``), and which repeat of a pair is kept
(``rm_dup_inter``). Its filters are not applied but reported, since they are options of training.

Source: RecBole 1.2, "Atomic Files" and "Data settings", recbole.io/docs.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from jaxrec.data.dataset import TEST, TRAIN, VALIDATION
from jaxrec.data.formats import paths, tables, yaml_subset
from jaxrec.data.formats.assemble import Part, Repeats
from jaxrec.data.formats.columns import IDS, Columns
from jaxrec.data.formats.id_keyed_tables import Keyed, Kind, delimited
from jaxrec.data.formats.text import TextOptions, look, opened
from jaxrec.errors import InputError

_FIELDS = {
    "user": "USER_ID_FIELD",
    "item": "ITEM_ID_FIELD",
    "rating": "RATING_FIELD",
    "time": "TIME_FIELD",
}
_USUAL = {"user": "user_id", "item": "item_id", "rating": "rating", "time": "timestamp"}
"""The columns in RecBole's default configuration."""
_FILTERS = {
    "user_inter_num_interval": "--filter.user-core",
    "item_inter_num_interval": "--filter.item-core",
    "val_interval": "--filter.min-rating, since and until",
    "threshold": "--filter.min-rating",
    "min_user_inter_num": "--filter.user-core",
    "min_item_inter_num": "--filter.item-core",
    "lowest_val": "--filter.min-rating and since",
    "highest_val": "--filter.until",
}
"""RecBole's filters, each with the equivalent options of training."""
_NO_FILTER = (None, "0", "[0,inf)", "[0,inf]")


@dataclass(frozen=True)
class Settings:
    """Settings of a data set; RecBole's defaults apply where the YAML file has no setting.

    Attributes:
      path: the YAML file, if there is one.
      fields: the columns that the YAML file names, by role.
      load: the columns to load, by the ending of their file; None for all columns.
      unload: the columns not to load, by the ending of their file.
      between: the separator between the elements of a sequence.
      parts: the names of the train, validation and test files.
      filters: the filters that the YAML file sets; they are not applied.
    """

    path: Path | None = None
    fields: Mapping[str, str] = field(default_factory=dict)
    load: Mapping[str, Any] | None = None
    unload: Mapping[str, Any] = field(default_factory=dict)
    separator: str = "\t"
    between: str = " "
    parts: tuple[str, ...] = ()
    repeats: Repeats | None = None
    filters: tuple[str, ...] = ()

    def loads(self, ending: str, name: str) -> bool:
        """Return whether a column of the file with this ending is loaded."""
        if name in _names(self.unload.get(ending)):
            return False
        if self.load is None:
            return True
        listed = self.load.get(ending)
        return listed == "*" or name in _names(listed)

    def said(self) -> str:
        """Return a text that names the YAML file, and its filters, which are not applied."""
        if self.path is None:
            return ""
        left = "".join(
            f"; its {name} is not applied: {_FILTERS[name]} of training" for name in self.filters
        )
        return f", by {self.path.name}{left}"


def settings(path: Path) -> Settings:
    """Return the settings for a folder of atomic files, or for one of them.

    Raises:
      InputError: the YAML file cannot be read, or a setting has a value of a wrong kind.
    """
    folder = path if path.is_dir() else path.parent
    names = {file.name.split(".")[0] for file in folder.glob("*.inter*")} | {folder.name}
    names = names if path.is_dir() else {path.name.split(".")[0]}
    files = [folder / f"{name}{end}" for name in sorted(names) for end in (".yaml", ".yml")]
    file = next((file for file in files if file.is_file()), None)
    if file is None:
        return Settings()
    try:
        found = yaml_subset.parse(file, file.read_text(encoding="utf-8"))
    except UnicodeDecodeError as e:
        raise InputError(f"{file}: not UTF-8 text; save it as UTF-8") from e

    def checked(name: str, kind: type, default: Any) -> Any:
        value = found.get(name)
        if value is None:
            return default
        if not isinstance(value, kind):
            called = {str: "a text", list: "a list", dict: "a mapping"}[kind]
            raise InputError(f"{file}: {name} must be {called}; change it, or leave it out")
        return value

    parts = tuple(checked("benchmark_filename", list, ()))
    if parts and (len(parts) > 3 or not all(isinstance(part, str) for part in parts)):
        raise InputError(
            f"{file}: benchmark_filename must name two or three files: train, validation, test"
        )
    first = checked("rm_dup_inter", str, "last") == "first"
    return Settings(
        path=file,
        fields={
            role: name
            for role, setting in _FIELDS.items()
            if (name := checked(setting, str, None)) is not None
        },
        load=checked("load_col", dict, None),
        unload=checked("unload_col", dict, {}),
        separator=checked("field_separator", str, "\t"),
        between=checked("seq_separator", str, " "),
        parts=parts,
        repeats=Repeats("first") if first else None,
        filters=tuple(name for name in _FILTERS if found.get(name) not in _NO_FILTER),
    )


def parts(
    path: Path,
    known: Settings,
    columns: Columns,
    event_weights: dict[str, float] | None,
    text: TextOptions,
    rows: int | None = None,
) -> Iterator[Part]:
    """Read the interactions.

    Args:
      known: the settings; columns that the caller names replace those of the settings.
      rows: about how many rows of a file are read at a time; None for all of it.

    Raises:
      InputError: a file or a column is missing, or a line is not usable; the message names the
        line.
    """
    options = text_options(known, text)
    for file, split in _files(path, known).items():
        header = _header(file, options)
        chosen = _chosen(file, header, known, columns)
        found = tables.pieces(
            *(file, chosen, event_weights, rows),
            options=options,
            ending=".tsv",
            typed=True,
            quote=False,
            split=split,
        )
        for part in found:
            part.reading += known.said()
            yield part


def features(file: Path, kind: Kind, known: Settings, text: TextOptions) -> Keyed | None:
    """Read the atomic file of users or items; None if the settings load no column of it."""
    table = delimited(
        *(file, kind), typed=True, options=text_options(known, text), between=known.between
    )
    kept = [name for name in table.frame.columns if known.loads(kind, name)]
    if not kept:
        return None
    kept = [name for name in table.frame.columns if name in kept or name == table.id_column]
    return table._replace(frame=table.frame.select(kept))


def text_options(known: Settings, text: TextOptions) -> TextOptions:
    """Return the options for the text of atomic files.

    Raises:
      InputError: the separator of the settings is not usable.
    """
    try:
        return replace(text, separator=known.separator)
    except InputError as e:
        raise InputError(f"{known.path}: field_separator: {e}") from e


def _names(listed: Any) -> list[Any]:
    """Return the names that a setting lists; a single name is a list of one."""
    return listed if isinstance(listed, list) else [listed]


def _files(path: Path, known: Settings) -> dict[Path, int | None]:
    if not (known.parts and path.is_dir() and known.path is not None):
        return paths.files_of(path, (".inter",))
    labels = (TRAIN, TEST) if len(known.parts) == 2 else (TRAIN, VALIDATION, TEST)
    stem = known.path.stem
    files = {
        path / f"{stem}.{part}.inter": label
        for part, label in zip(known.parts, labels, strict=False)
    }
    for file in files:
        if not file.is_file():
            raise InputError(
                f"{file}: no such file, which benchmark_filename of {known.path.name} names; add it"
            )
    return dict.fromkeys(files) if len(files) == 1 else dict(files)


def _header(file: Path, options: TextOptions) -> list[str]:
    """Return the names of the columns, without their types."""
    head = look(opened(file, options), separator=options.separator, ending=".tsv", quote=False)
    return [name.split(":")[0] for name in head.rows[0]]


def _chosen(file: Path, header: list[str], known: Settings, columns: Columns) -> Columns:
    """Return the column of each role: the caller's if given, else the column of the settings."""
    if known.path is None:
        return columns
    chosen: dict[str, str] = {}
    for role, setting in _FIELDS.items():
        if getattr(columns, role) is not None:
            continue
        usual = _USUAL[role] if _USUAL[role] in header else None
        name = known.fields.get(role, usual)
        if name in header:
            chosen[role] = name if role in IDS or known.loads("inter", name) else ""
        elif name is not None and role in IDS:
            raise InputError(
                f"{file}:1: no column {name!r}, which {setting} of {known.path} names; it has "
                f"{', '.join(header[:12])}"
            )
        elif role not in IDS and (name is not None or known.load is not None):
            chosen[role] = ""
    return replace(columns, **chosen)
