"""How long several strategies take is said before they have taken it."""

from __future__ import annotations

import pytest

from clbench.base.events import Event, Note
from clbench.extension.expected_time import announce_steps


@pytest.mark.parametrize(
    "strategies, seconds, said",
    [
        (3, 70.0, ["3 further strategies of gradient steps: about 4 minutes"]),
        (1, 40.0, ["one further strategy of gradient steps: about 40 seconds"]),
        (3, 1.0, []),
        (0, 500.0, []),
    ],
)
def test_further_strategies_of_gradient_steps_are_taken_to_be_as_long(strategies, seconds, said):
    sent: list[Event] = []
    announce_steps(strategies, seconds, sent.append)
    assert [event.text for event in sent if isinstance(event, Note)] == said


def test_several_closed_forms_are_announced_together(model, photos, tmp_path, capsys, monkeypatch):
    import clbench

    monkeypatch.setattr("clbench.training.closed_form_time._operations_per_second", lambda device, threads: 1e5)
    values = {"ranpac.projections": 200, "acil.expansion": 200, "network.train": "head"}
    clbench.extend(
        model,
        photos.one,
        strategy="ranpac,acil,naive",
        old_images=photos.old_images,
        set=values,
        out=tmp_path / "out",
        threads=1,
    )
    assert "ranpac and acil, without gradient steps: about" not in capsys.readouterr().err
    monkeypatch.setattr("clbench.training.closed_form_time._WORTH_A_MEASUREMENT", 0.0)
    clbench.extend(
        model,
        photos.one,
        strategy="ranpac,acil,naive",
        old_images=photos.old_images,
        set=values,
        out=tmp_path / "again",
        threads=1,
    )
    assert "ranpac and acil, without gradient steps: about" in capsys.readouterr().err
