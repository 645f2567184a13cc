"""Tests of the whole stack with real models. They share one stack."""
