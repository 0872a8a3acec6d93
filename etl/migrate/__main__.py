"""python -m etl.migrate"""

from etl.migrate.command import app

if __name__ == "__main__":
    app(prog_name="python -m etl.migrate")
