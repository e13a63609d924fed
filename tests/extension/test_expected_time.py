"""How long several strategies take is said before they have taken it."""

from __future__ import annotations

import pytest

import clbench
from clbench.base.events import Event, Note
from clbench.extension.expected_time import announce_steps


@pytest.mark.parametrize(
    "strategies, seconds, said",
    [
        (3, 70.0, ["3 further strategies with gradient steps: about 4 minutes"]),
        (1, 40.0, ["one further strategy with gradient steps: about 40 seconds"]),
        (3, 1.0, []),
        (0, 500.0, []),
    ],
)
def test_further_strategies_of_gradient_steps_are_taken_to_be_as_long(strategies, seconds, said):
    sent: list[Event] = []
    announce_steps(strategies, seconds, sent.append)
    assert [event.text for event in sent if isinstance(event, Note)] == said


def test_several_closed_forms_are_announced_together_if_they_take_long(model, photos, tmp_path, capsys, monkeypatch):
    def said(out: str) -> str:
        values = {"ranpac.projections": 200, "acil.expansion": 200, "network.train": "head"}
        given = {"old_images": photos.old_images, "set": values, "threads": 1}
        clbench.extend(model, photos.one, strategy="ranpac,acil,naive", out=tmp_path / out, **given)
        return capsys.readouterr().err

    announced = "ranpac and acil, without gradient steps: about"
    monkeypatch.setattr("clbench.training.closed_form_time._operations_per_second", lambda device, threads: 1e5)
    assert announced not in said("short")
    monkeypatch.setattr("clbench.training.closed_form_time._WORTH_A_MEASUREMENT", 0.0)
    assert announced in said("long")
