"""Callbacks of the user's: what is none, and names that are taken, are named before training."""

import pytest
from faults.estimators import ESTIMATORS, WINE
from skorch.callbacks import Callback


class Idle(Callback):
    pass


@pytest.mark.parametrize(
    "callbacks",
    [
        [Idle(), Idle()],
        [("one", Idle()), ["two", Idle()], ("user__3", Idle())],
        (Idle, ("a class", Idle)),
    ],
)
def test_callbacks_are_instances_or_classes_with_names_or_without(callbacks):
    assert ESTIMATORS["DeVAE"](max_epochs=1, callbacks=callbacks).fit(WINE).n_iter_ == 1


@pytest.mark.parametrize("wrong", ["print", print, None, ("name", None), (1, Idle()), ("a", Idle(), "b"), object])
def test_what_is_no_callback_is_named(wrong):
    with pytest.raises(ValueError, match=r"callbacks\[1\] is .*give a callback of skorch, or a pair"):
        ESTIMATORS["DeVAE"](callbacks=[Idle(), wrong]).fit(WINE)


@pytest.mark.parametrize("name", ["mine", "user_0", "train_loss", "_skdevae_stopping", "_skdevae_schedule_0"])
def test_a_name_that_is_taken_is_named(name):
    with pytest.raises(ValueError, match=rf"callbacks\[2\] is named '{name}', but .*Choose another name"):
        ESTIMATORS["DeVAE"](callbacks=[Idle(), ("mine", Idle()), (name, Idle())]).fit(WINE)
