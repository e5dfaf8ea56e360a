"""Every data set of the registry is what the registry says."""

import pytest
import torch

from lab import data


@pytest.mark.parametrize("name", data.NAMES)
def test_a_data_set_is_as_its_spec_says(name):
    entry, dataset = data.REGISTRY[name], data.load(name)
    spec = entry.spec
    tokens = spec.kind == "tokens"
    for samples, inputs, targets in (
        (spec.train_samples, dataset.train_inputs, dataset.train_targets),
        (spec.test_samples, dataset.test_inputs, dataset.test_targets),
    ):
        assert inputs.shape == (samples, *spec.shape)
        assert inputs.dtype == (torch.int64 if tokens else torch.float32)
        assert targets.shape == ((samples, *spec.shape) if tokens else (samples,))
        assert targets.dtype == torch.int64
        assert targets.unique().tolist() == list(range(spec.classes))
        assert inputs.is_contiguous()
        assert targets.is_contiguous()
    source = dataset.source
    assert (source.name, source.title, source.origin) == (name, entry.title, entry.origin)
    assert (source.train_samples, source.test_samples) == (spec.train_samples, spec.test_samples)
