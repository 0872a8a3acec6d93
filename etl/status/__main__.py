"""python -m etl.status"""

from etl.status.command import app

if __name__ == "__main__":
    app(prog_name="python -m etl.status")
