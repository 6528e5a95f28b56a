"""Options take known names only, and say which name was meant."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from efaas.errors import InputError
from efaas.primitives.options import MAX_SHOTS, EstimatorOptions, SamplerOptions, shots_for


class TestNames:
    @pytest.mark.parametrize(
        ("name", "near"),
        [
            ("default_shot", "default_shots"),
            ("resiliance_level", "resilience_level"),
            ("seed", "seed_estimator"),
        ],
    )
    def test_an_unknown_one_is_refused_with_the_nearest(self, name, near):
        with pytest.raises(InputError, match=f"options.{name}: is no option; did you mean '{near}'"):
            EstimatorOptions.of({name: 1})

    def test_assignment_is_checked_as_well(self):
        options = SamplerOptions()
        with pytest.raises(InputError, match="did you mean 'default_shots'"):
            options.defaultshots = 5

    def test_parts_are_set_by_dictionaries(self):
        options = EstimatorOptions.of(
            {
                "resilience": {
                    "zne_mitigation": True,
                    "zne": {"noise_factors": [1, 3], "extrapolator": "linear"},
                }
            }
        )
        assert options.noise_factors == (1, 3)
        assert options.resilience.zne.extrapolator == "linear"
        options.resilience.zne.noise_factors = (1, 5, 9)
        assert options.noise_factors == (1, 5, 9)

    def test_the_simulators_seed_is_the_estimators(self):
        assert EstimatorOptions.of({"seed_simulator": 4}).seed_estimator == 4

    def test_options_are_copied(self):
        first = EstimatorOptions()
        second = EstimatorOptions.of(first)
        second.default_shots = 7
        assert first.default_shots is None


@pytest.mark.parametrize(
    ("level", "readout", "factors"), [(0, False, (1,)), (1, True, (1,)), (2, True, (1, 3, 5))]
)
def test_the_level_chooses_what_is_mitigated(level, readout, factors):
    options = EstimatorOptions.of({"resilience_level": level})
    assert (options.mitigates_readout, options.noise_factors) == (readout, factors)
    options.resilience.measure_mitigation = not readout
    assert options.mitigates_readout is not readout


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("resilience_level", 3),
        ("default_shots", 0),
        ("default_shots", MAX_SHOTS + 1),
        ("default_shots", True),
        ("default_precision", 0.0),
        ("default_precision", float("nan")),
        ("seed_estimator", -1),
        ("resilience", {"zne": {"noise_factors": [1, 2]}}),
        ("resilience", {"zne": {"noise_factors": [1]}}),
        ("resilience", {"zne": {"noise_factors": [5, 3]}}),
        ("resilience", {"zne": {"extrapolator": "cubic"}}),
        ("resilience", {"measure_mitigation": "yes"}),
    ],
)
def test_values_that_cannot_be_are_refused(field, value):
    with pytest.raises(InputError, match=f"options.{field}"):
        EstimatorOptions.of({field: value})


class TestPrecision:
    @given(st.integers(1, MAX_SHOTS))
    def test_shots_and_precision_are_inverse(self, shots):
        assert shots_for(shots**-0.5, "here") == shots

    def test_the_default_is_that_of_qiskit(self):
        assert shots_for(EstimatorOptions().precision, "here") == 4096

    def test_shots_go_before_precision(self):
        assert shots_for(EstimatorOptions.of({"default_shots": 100}).precision, "here") == 100

    @pytest.mark.parametrize("precision", [0.0, -1.0, float("nan"), 1e-6])
    def test_what_cannot_be_had_is_refused(self, precision):
        with pytest.raises(InputError, match="here"):
            shots_for(precision, "here")
