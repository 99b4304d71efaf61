import pytest

import marsrl
from marsrl import Config, presets
from marsrl.envs.tasks import FAMILIES, TASKS
from marsrl.errors import UserError


@pytest.mark.parametrize("task", TASKS)
def test_every_task_has_a_valid_preset(task):
    config = marsrl.preset(task)
    assert config.task == task
    assert config.core == ("gru" if TASKS[task].memory else "ff")


def test_presets_are_of_families_that_exist():
    assert set(presets._FAMILIES) == set(FAMILIES)


def test_the_default_configuration_is_the_preset_of_its_task_but_for_what_is_its_own():
    """What any task starts from standardises its inputs; those of PaxMen are better raw."""
    own = {"total_steps": 1_500_000, "core": "ff", "update_epochs": 8, "ent_coef": 0.01}
    own |= {"actor_norm": "none", "critic_norm": "none"}
    assert marsrl.preset(Config.task) == Config(**own)


def test_settings_go_before_the_preset():
    config = marsrl.preset("rware/tiny-2ag", core="gru", ent_coef=0.5, objective="maspo")
    assert (config.core, config.ent_coef, config.objective) == ("gru", 0.5, "maspo")
    assert config.actor_lr == marsrl.preset("rware/tiny-2ag").actor_lr != Config.actor_lr


def test_a_task_from_elsewhere_gets_the_defaults():
    assert marsrl.preset("my_module:env") == Config(task="my_module:env")


def test_settings_are_checked():
    with pytest.raises(UserError, match="num_envs = 0"):
        marsrl.preset("smax/2s3z", num_envs=0)
