"""A teacher's playlist: scenes, each a state of Explore with a note to the speaker, in one link. Knows no Streamlit."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from app.drawing import from_text, to_text
from app.words import t
from gpvae_core.errors import InputError

MOST_SCENES, LONGEST_NOTE = 20, 300  # scenes; characters
LONGEST = 40_000  # bytes of all together
NOT_SO = "the link's playlist must have 1 to {scenes} scenes, with notes of {longest} characters at most"
OWN = ("play", "scene")  # the keys of the address that name the playlist itself


@dataclass(frozen=True)
class Scene:
    """The address of a state of Explore, by key, and what the speaker wants to say of it."""

    query: Mapping[str, str] = field(default_factory=dict)
    note: str = ""


def scene_of(query: Mapping[str, str], note: str) -> Scene:
    """The state of this address as a scene."""
    return Scene({key: value for key, value in query.items() if key not in OWN}, note.strip()[:LONGEST_NOTE])


def encode(scenes: Sequence[Scene]) -> str:
    """All scenes as text for the address bar; "" for none."""
    return to_text(json.dumps([[dict(s.query), s.note] for s in scenes]).encode()) if scenes else ""


def decode(text: str) -> tuple[Scene, ...]:
    """The scenes of ``encode``. Raises InputError for anything else."""
    raw = from_text(text, "playlist", LONGEST)
    try:
        said = json.loads(raw)
        scenes = tuple(Scene({str(k): str(v) for k, v in query.items()}, str(note)) for query, note in said)
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise InputError(t("the link's playlist is damaged; ask for the link again")) from None
    if not 1 <= len(scenes) <= MOST_SCENES or any(len(scene.note) > LONGEST_NOTE for scene in scenes):
        raise InputError(t(NOT_SO, scenes=MOST_SCENES, longest=LONGEST_NOTE))
    if any(key in OWN for scene in scenes for key in scene.query):
        raise InputError(t("a scene of the link's playlist holds a playlist itself; make the list anew"))
    return scenes
