"""An imported program as one module, as it was before it is cut into nodes."""

from stream_agent.importing.program import ImportedOperation, ImportedProgram, ImportFault
from stream_agent.network.bodies import BODY_OPERATIONS, BodyStep, make_operation
from stream_agent.network.transforms import NamedModules, Shape
from stream_agent.theory.checks import nearest
import torch
from torch import nn, Tensor

# Two batch sizes show which axis is that of the batch.
BATCHES = (2, 3)
# What every value would be for these, without memory.
Examples = dict[str, tuple[Tensor, ...]]


class Whole(nn.Module):
    """
    All operations of a program, without nodes.

    Shapes: (B, *shape) of the inputs, then of the states, zeros where these are left out; to the
    output, and with states to a tuple of the output and what they are in the next frame.

    :raises ImportFault: If an operation cannot be made of what it reads, or with its weights.
    """

    def __init__(self, program: ImportedProgram) -> None:
        super().__init__()
        self.program = program
        self.operations = NamedModules()
        given = {**program.inputs, **{name: state.shape for name, state in program.states.items()}}
        examples: Examples = {name: tuple(torch.zeros(count, *shape, device='meta')
                                          for count in BATCHES) for name, shape in given.items()}
        with torch.no_grad():
            for operation in program.operations:
                self.operations[operation.name] = made(operation, examples)
        #: The shapes of all values for either batch size, that axis included.
        self.sizes = {name: tuple(tuple(value.shape) for value in values)
                      for name, values in examples.items()}
        #: The shapes of all values without batch; () where that is not the first axis.
        self.shapes = {name: shape_of(*sizes) for name, sizes in self.sizes.items()}

    def values(self, *arguments: Tensor) -> dict[str, Tensor]:
        """Return every value of a frame by name."""
        values = dict(zip((*self.program.inputs, *self.program.states), arguments))
        for name, state in self.program.states.items():
            if name not in values:
                values[name] = arguments[0].new_zeros(len(arguments[0]), *state.shape)
        for operation in self.program.operations:
            values[operation.name] = self.operations[operation.name](
                *[values[name] for name in operation.of])
        return values

    def forward(self, *arguments: Tensor) -> Tensor | tuple[Tensor, ...]:
        values = self.values(*arguments)
        output, states = values[self.program.output], self.program.states.values()
        return (output, *(values[state.next] for state in states)) if states else output


def shape_of(two: Shape, three: Shape) -> Shape:
    """Return the shape without batch of a value that has these for the two batch sizes."""
    # What depends on no input has one sample, which stands for all.
    return two[1:] if two[1:] == three[1:] and (two[:1], three[:1]) in (
        ((2,), (3,)), ((1,), (1,))) else ()


def place_of(operation: ImportedOperation) -> str:
    """Return which operation it is and where it comes from, for messages."""
    return f"operation '{operation.name}'" + (
        f" of module '{operation.module}'" if operation.module else '')


def made(operation: ImportedOperation, examples: Examples) -> nn.Module:
    """Return the module of an operation, with its weights; its results join the examples."""
    place = place_of(operation)
    if operation.kind not in BODY_OPERATIONS:
        raise ImportFault(f"{place}: '{operation.kind}' is not in the vocabulary; "
                          + nearest(operation.kind, BODY_OPERATIONS, 'operations'))
    operands = [examples[name] for name in operation.of]
    step = BodyStep(operation.name, operation.kind, operation.of, operation.options)
    shapes = [tuple(first.shape[1:]) for first, *_ in operands]
    try:
        with torch.device('meta'):
            module = make_operation(step, shapes)
            examples[operation.name] = tuple(
                module(*(values[i] for values in operands)) for i in range(len(BATCHES)))
        # Weights are not copied; what none is given for is refused.
        module.load_state_dict(dict(operation.weights), assign=True)
        if not operation.weights:  # but maybe numbers that follow from sizes
            module = make_operation(step, shapes)
    except Exception as error:  # torch refuses sizes in many ways
        of = ', '.join(str(list(shape)) for shape in shapes) or 'nothing'
        raise ImportFault(f'{place}: {operation.kind} of {of}: {error}; export the network '
                          'again, for one frame') from error
    for name, value in operation.weights.items():
        if not value.sum().isfinite():
            raise ImportFault(f"{place}: its '{name}' holds NaN or infinity; train the network "
                              'again')
    return module
