from transformer.monitoring.settings import flatten, model_settings


def test_flatten():
    config = {"a": {"b": [1, 2], "c": {"d": None}}, "e": False, "f": 1.5, "g": "x", "empty": {}}
    assert flatten(config) == {"a.b": "[1, 2]", "a.c.d": "none", "e": "false", "f": 1.5, "g": "x"}


def test_a_choice_is_shown_by_its_class():
    assert flatten({"schedule": {"_target_": "transformer.training.schedule.Cosine", "steps": 5}}) == {
        "schedule": "Cosine",
        "schedule.steps": 5,
    }


def test_what_decides_no_number_is_no_setting_of_the_model():
    config = {"name": "a", "seed": 1, "monitor": {"record": {"_target_": "transformer.Record"}}, "resume": True}
    assert model_settings(config) == {"seed": 1}
