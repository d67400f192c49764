-- Why the SQL of a state may not stand for it, in words; empty where it may, or where nobody has said.
ALTER TABLE identities ADD COLUMN doubt TEXT NOT NULL DEFAULT '';
