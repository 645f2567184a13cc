"""What tests share: fakes, stacks, clients, fixtures and workers of their own."""
