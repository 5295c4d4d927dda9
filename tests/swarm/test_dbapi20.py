"""The public PEP 249 compliance suite, Stuart Bishop's dbapi20, as the package dbapi-compliance."""

from __future__ import annotations

import shutil
import tempfile
from typing import Any

import dbapi20

import murmur


class TestCompliance(dbapi20.DatabaseAPI20Test):  # type: ignore[misc]  # the suite is untyped
    driver: Any = murmur

    def setUp(self) -> None:
        self.directory = tempfile.mkdtemp()
        self.connect_args = (self.directory,)
        self.connect_kw_args = {"durability": "none"}
        super().setUp()

    def tearDown(self) -> None:
        super().tearDown()
        shutil.rmtree(self.directory)

    # As sqlite3's, and as contextlib.closing wants it. The suite says that opinions differ.
    def test_non_idempotent_close(self) -> None:
        connection = self._connect()
        connection.close()
        connection.close()
        with self.assertRaises(murmur.Error):  # noqa: PT027 - a unittest
            connection.cursor()

    # The suite leaves these two to each driver; Murmur has one result a call.

    def test_nextset(self) -> None:
        assert not hasattr(murmur.Cursor, "nextset")

    def test_setoutputsize(self) -> None:
        connection = self._connect()
        connection.cursor().setoutputsize(1000)
        connection.cursor().setoutputsize(2000, 0)
        connection.close()


del dbapi20.DatabaseAPI20Test  # or it is collected, and has no driver
