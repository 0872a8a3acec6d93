"""Sources by name: tables that must arrive cell for cell, and those that must be refused, as SQL."""

ROWS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 120) "
FILL = f"INSERT INTO clients (k) {ROWS} SELECT CASE i % 7 WHEN 0 THEN NULL WHEN 1 THEN ' ' ELSE '+7' || i END FROM n"
PLAIN = ("CREATE TABLE clients (k TEXT, note TEXT, amount REAL)", FILL)
CELLS = [
    *("NULL", "''", "' '", "0", "1", "-1", "2", "9007199254740993", "9223372036854775807", "-9223372036854775807 - 1"),
    *(
        "0.5",
        "5",
        "5.25",
        "-0.0",
        "9e999",
        "-9e999",
        "5e-324",
        "1e308",
        "9007199254740993.0",
        "x''",
        "x'00'",
        "x'ff20'",
        "'text'",
    ),
    *(
        "'07'",
        "'5.0'",
        "'1e400'",
        "'9223372036854775808'",
        "'2024-1-2'",
        "'01.02.2024'",
        "'2024-01-02T03:04:05Z'",
        "'true'",
    ),
    *("'a' || char(0) || 'b'", "char(65535)", "CAST(x'c328' AS TEXT)", "CAST(x'00d86100' AS TEXT)", "'пять'", "'😀'"),
]
VERSIONS_DISAGREE = ("5e-324", "9007199254740993.0")  # on the text of a real, so on its shard: 3.52 went to 17 digits
TYPES = [
    "INTEGER",
    "TEXT",
    "STRING",
    "REAL",
    "DOUBLE",
    "NUMERIC",
    "DECIMAL(10,2)",
    "BOOLEAN",
    "DATE",
    "DATETIME",
    "BLOB",
    "",
    "ANY",
]
EVERY_CELL = (
    f"CREATE TABLE clients (k TEXT, {', '.join(f'c{i} {name}' for i, name in enumerate(TYPES))})",
    f"INSERT INTO clients (k) VALUES {', '.join(f'({i})' for i in range(9))}",  # NULL in all columns at first
    *(f"INSERT INTO clients VALUES ({', '.join([cell] * (len(TYPES) + 1))})" for cell in CELLS),
)
STRICT_CELLS = (
    "CREATE TABLE clients (k ANY, i INT, r REAL, t TEXT, b BLOB, a ANY) STRICT",
    *(f"INSERT INTO clients (k, a) VALUES ({cell}, {cell})" for cell in CELLS if cell not in VERSIONS_DISAGREE),
    "INSERT INTO clients VALUES (1, 9007199254740993, 5, '', x'', '5.0')",
    "INSERT INTO clients VALUES ('x', NULL, -9e999, CAST(x'ff' AS TEXT), x'00', 9e999)",
)
ROWIDS = "INSERT INTO clients (rowid, k) VALUES "
EXTREMES = ", ".join(
    f"({rowid}, 'k' || {n})" for n, rowid in enumerate((-(2**63) + 1, -(2**53) - 1, -1, 0, 1, 2**53 + 1, 2**63 - 1))
)
ACCEPTED: dict[str, tuple[str, ...]] = {
    "an ordinary table": PLAIN,
    "an empty table": PLAIN[:1],
    "one row": (PLAIN[0], "INSERT INTO clients VALUES ('a', '', 0)"),
    "one column": ("CREATE TABLE clients (k)", FILL),
    "every cell under every declared type": EVERY_CELL,
    "every cell in UTF-16le": ("PRAGMA encoding = 'UTF-16le'", *EVERY_CELL),
    "every cell in UTF-16be": ("PRAGMA encoding = 'UTF-16be'", *EVERY_CELL),
    "every cell in a STRICT table": STRICT_CELLS,
    "a column that shadows rowid": ("CREATE TABLE clients (k, rowid TEXT)", FILL, "UPDATE clients SET rowid = 'same'"),
    "a column that shadows rowid and oid": (
        "CREATE TABLE clients (k, ROWID, Oid)",
        FILL,
        "UPDATE clients SET rowid = 1, oid = k",
    ),
    "all three shadowed and a primary key": (
        "CREATE TABLE clients (k, rowid, oid, _rowid_, id INTEGER PRIMARY KEY)",
        FILL,
    ),
    "the primary key itself called rowid": ("CREATE TABLE clients (rowid INTEGER PRIMARY KEY, k)", FILL),
    "the primary key as the shard key": (
        "CREATE TABLE clients (k INTEGER PRIMARY KEY, note)",
        f"{ROWS}INSERT INTO clients SELECT i, i FROM n",
    ),
    "INTEGER PRIMARY KEY DESC": (
        "CREATE TABLE clients (id INTEGER PRIMARY KEY DESC, k)",
        FILL,
        "UPDATE clients SET id = -rowid",
    ),
    "AUTOINCREMENT with gaps": (
        "CREATE TABLE clients (id INTEGER PRIMARY KEY AUTOINCREMENT, k)",
        FILL,
        "DELETE FROM clients WHERE id % 3 = 0",
    ),
    "a rowid named by a table constraint": ("CREATE TABLE clients (k, id INTEGER, PRIMARY KEY (id))", FILL),
    "a text primary key": (
        "CREATE TABLE clients (k TEXT PRIMARY KEY)",
        "INSERT INTO clients VALUES (NULL), (NULL), ('a'), (''), (' ')",
    ),
    "a composite primary key": (
        "CREATE TABLE clients (k TEXT, b, PRIMARY KEY (k, b))",
        f"{ROWS}INSERT INTO clients SELECT i % 9, i FROM n",
    ),
    "virtual and stored columns": ("CREATE TABLE clients (v AS (k || 'v'), k, s AS (length(k)) STORED, e)", FILL),
    "a virtual column as the key": (
        "CREATE TABLE clients (n TEXT, k AS (substr(n, 2)))",
        f"{ROWS}INSERT INTO clients SELECT i FROM n",
    ),
    "sparse rowids": (PLAIN[0], f"{ROWS}INSERT INTO clients (rowid, k) SELECT i * i * 1000003, i FROM n"),
    "negative rowids": (PLAIN[0], f"{ROWS}INSERT INTO clients (rowid, k) SELECT -i * 7, i FROM n"),
    "rowids at the limits": (PLAIN[0], ROWIDS + EXTREMES, ROWIDS + "(-9223372036854775807 - 1, '')"),
    "only the least rowid": (PLAIN[0], ROWIDS + "(-9223372036854775807 - 1, 'a')"),
    "columns added after the rows": (
        *PLAIN,
        "ALTER TABLE clients ADD d TEXT DEFAULT 5",
        "ALTER TABLE clients ADD r REAL DEFAULT 5",
    ),
    "columns dropped and renamed": (
        *PLAIN,
        "ALTER TABLE clients DROP amount",
        "ALTER TABLE clients RENAME note TO remark",
    ),
    "a renamed table": ("CREATE TABLE old (k)", "ALTER TABLE old RENAME TO clients", FILL),
    "a table made by SELECT": (
        "CREATE TABLE old (k, amount DECIMAL(5,2))",
        "CREATE TABLE clients AS SELECT * FROM old",
        FILL,
    ),
    "comments in the DDL": (
        'create table  clients ( -- it\'s "one"\n k /* the ) key */ TEXT, [b] DEFAULT (1+(2)) )',
        FILL,
    ),
    "rows their own CHECK refuses": (
        "CREATE TABLE clients (k CHECK (k = 'no'))",
        "PRAGMA ignore_check_constraints = 1",
        FILL,
    ),
    "a reference to a table not there": (
        "CREATE TABLE clients (k REFERENCES nowhere (id) DEFERRABLE INITIALLY DEFERRED)",
        FILL,
    ),
    "UNIQUE ON CONFLICT REPLACE": (
        "CREATE TABLE clients (k, n UNIQUE ON CONFLICT REPLACE COLLATE NOCASE)",
        FILL,
        "UPDATE clients SET n = rowid",
    ),
    "triggers": (*PLAIN, "CREATE TRIGGER t AFTER INSERT ON clients BEGIN UPDATE clients SET note = 'changed'; END"),
    "its own indexes": (
        *(
            *PLAIN,
            "CREATE UNIQUE INDEX u ON clients (k) WHERE k > '+'",
            "CREATE INDEX e ON clients (length(k), note COLLATE NOCASE DESC)",
        ),
        'CREATE INDEX "idx_clients_k" ON clients (k)',
    ),
    "megabytes in a cell": (
        "CREATE TABLE clients (k, t TEXT, b BLOB)",
        "INSERT INTO clients VALUES (1, hex(zeroblob(2000000)), zeroblob(3000000))",
    ),
    "hundreds of untyped columns": (f"CREATE TABLE clients (k, {', '.join(f'c{i}' for i in range(600))})", FILL),
    "WAL": ("PRAGMA journal_mode = WAL", *PLAIN),
    "a header of its own": (
        "PRAGMA page_size = 512",
        "PRAGMA user_version = -7",
        "PRAGMA application_id = 1234567",
        *PLAIN,
    ),
}
REFUSED: dict[str, tuple[tuple[str, ...], str]] = {
    "no such table": (("CREATE TABLE other (k)",), "clients"),
    "an empty database": (("PRAGMA user_version = 1",), "clients"),
    "a view": (("CREATE TABLE t (k)", "CREATE VIEW clients AS SELECT * FROM t"), "view"),
    "a virtual table": (("CREATE VIRTUAL TABLE clients USING fts5 (k)",), "virtual"),
    "WITHOUT ROWID": (("CREATE TABLE clients (k PRIMARY KEY) WITHOUT ROWID",), "WITHOUT ROWID"),
    "no such key column": (("CREATE TABLE clients (first, second AS (first), third)",), "first.*second.*third"),
    "no name left for the rowid": (("CREATE TABLE clients (k, rowid, _rowid_, oid)",), "rowid"),
}
