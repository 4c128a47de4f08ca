"""The shared fixtures of this folder's tests."""

from support.fixtures.training import finished, task, untouched
