-- Conditions of a commit. A guard is `INSERT INTO commit_guard (guard_N) SELECT 0 WHERE <it does not hold>`: it writes
-- nothing where it holds and breaks its CHECK, and with it the whole batch, where it does not. The name of the
-- broken CHECK says which guard it was. The table is always empty.
CREATE TABLE commit_guard (
    guard_0 INTEGER CONSTRAINT guard_0 CHECK (guard_0 = 1),
    guard_1 INTEGER CONSTRAINT guard_1 CHECK (guard_1 = 1),
    guard_2 INTEGER CONSTRAINT guard_2 CHECK (guard_2 = 1),
    guard_3 INTEGER CONSTRAINT guard_3 CHECK (guard_3 = 1),
    guard_4 INTEGER CONSTRAINT guard_4 CHECK (guard_4 = 1),
    guard_5 INTEGER CONSTRAINT guard_5 CHECK (guard_5 = 1),
    guard_6 INTEGER CONSTRAINT guard_6 CHECK (guard_6 = 1),
    guard_7 INTEGER CONSTRAINT guard_7 CHECK (guard_7 = 1),
    guard_8 INTEGER CONSTRAINT guard_8 CHECK (guard_8 = 1),
    guard_9 INTEGER CONSTRAINT guard_9 CHECK (guard_9 = 1),
    guard_10 INTEGER CONSTRAINT guard_10 CHECK (guard_10 = 1),
    guard_11 INTEGER CONSTRAINT guard_11 CHECK (guard_11 = 1),
    guard_12 INTEGER CONSTRAINT guard_12 CHECK (guard_12 = 1),
    guard_13 INTEGER CONSTRAINT guard_13 CHECK (guard_13 = 1),
    guard_14 INTEGER CONSTRAINT guard_14 CHECK (guard_14 = 1),
    guard_15 INTEGER CONSTRAINT guard_15 CHECK (guard_15 = 1)
) STRICT;
