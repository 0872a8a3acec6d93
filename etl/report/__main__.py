"""python -m etl.report"""

from etl.report.command import app

if __name__ == "__main__":
    app(prog_name="python -m etl.report")
