from pdtrain.cli import run

run()
