import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread_and_seed():
    """These tensors are tiny: threads that wait for a processor would take most of the time."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)
