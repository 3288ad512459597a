"""A project of its own for each module of tests."""

import pytest

from tiny_project import DATA, PROJECT, Project, tiny

__all__ = ["DATA", "PROJECT", "Project", "tiny"]


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Project:
    """One project for the tests of a module."""
    return Project(tmp_path_factory.mktemp("project"))
