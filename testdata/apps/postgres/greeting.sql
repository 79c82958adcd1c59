INSERT INTO greeting VALUES ('Hello from PostgreSQL on Debian');
