"""How many of the processor's cores a model's own threads take."""


def cores() -> int:
    """Return how many cores a model takes in this thread: torch's number, which ``OMP_NUM_THREADS`` may limit."""
    import torch

    return torch.get_num_threads()


def use_cores(count: int) -> None:
    """Let what a model computes in this thread, and in no other, take so many cores."""
    import torch
    from threadpoolctl import threadpool_limits

    torch.get_num_threads()  # what it would do when it first computes here: set the number to the process's
    threadpool_limits(count, user_api="openmp")  # OpenMP keeps it for each thread
