"""What both rivals on a GPU begin with: a request on stdin, and PyTorch on the device that it names. Ends with {"missing": why} where something is not there."""
import importlib
import json
import sys


def missing(why):
    print(json.dumps({'missing': why}))
    sys.exit(0)


def require(name, package):
    try:
        return importlib.import_module(name)
    except ImportError as error:
        missing(f'{package} is not installed for {sys.executable}: {error}')


def opened(seed):
    """(request, torch, device)"""
    request = json.load(sys.stdin)
    torch = require('torch', 'PyTorch')
    device = request['device']
    if device == 'cuda' and not torch.cuda.is_available():
        missing(f'PyTorch {torch.__version__} finds no CUDA device')
    torch.set_grad_enabled(False)
    torch.manual_seed(seed)
    return request, torch, device
