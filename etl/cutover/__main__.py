"""python -m etl.cutover"""

from etl.cutover.command import app

if __name__ == "__main__":
    app(prog_name="python -m etl.cutover")
