import pytest
from pydantic import ValidationError

from pipcook_deploy.compression.options import BudgetOptions


def test_a_metric_that_there_is_not_is_a_mistake_of_the_recipe():
    with pytest.raises(ValidationError, match="did you mean"):
        BudgetOptions(metric="acuracy")
