"""python -m etl.verify"""

from etl.verify.command import app

if __name__ == "__main__":
    app(prog_name="python -m etl.verify")
