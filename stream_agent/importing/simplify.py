"""What a network computes, with fewer operations: the same values up to rounding."""

from dataclasses import replace

from stream_agent.importing.folding import scaled, scaled_before, Scaling
from stream_agent.importing.grouping import free_operations
from stream_agent.importing.program import ImportedOperation, ImportedProgram, ImportFault
from stream_agent.importing.running import place_of, Whole
from stream_agent.importing.states import needed, own_states
import torch
from torch import Tensor

# They give their operand as it is if its shape stays.
SAME_IF_SHAPE_STAYS = {'identity', 'reshape', 'slice', 'expand', 'adaptive_average',
                       'adaptive_maximum'}
# What scales and shifts, if it has a constant operand.
ARITHMETIC = {'add', 'subtract', 'multiply', 'divide'}
# Products of a value and what the first operation makes of it.
GATED = {'sigmoid': 'silu', 'hard_sigmoid': 'hard_swish'}


@torch.no_grad()
def simplified(program: ImportedProgram) -> ImportedProgram:
    """
    Return a program that gives the same, without what is not needed.

    What nobody reads and what changes nothing vanishes, what depends on no input is computed,
    scales and shifts become part of the layers beside them, and every cell gets a state of its
    own. Every operation gets its shape.

    :raises ImportFault: If the network has no input, or cannot be computed.
    """
    if not program.inputs:
        raise ImportFault('inputs: the network takes none; export it with one, and, if need be, '
                          'with states')
    editing = Editing(program)
    editing.compute_constants()
    editing.drop_dead_ends()
    changed = True
    while changed:
        changed = any([step(operation) for step in (
            editing.vanish, editing.shorten, editing.fold_pads, editing.recognise, editing.fold)
            for name in [*editing.operations] if (operation := editing.operations.get(name))])
    editing.drop_dead_ends()
    found = replace(program, states=editing.states, output=editing.output,
                    operations=tuple(editing.operations.values()))
    allowed = fed_by_image(found) | (free_operations(found) - editing.kept)
    for operation in found.operations:
        if operation.name not in allowed:
            raise ImportFault(f'{place_of(operation)}: what it gives, the output or a part of a '
                              'state, does not depend on the image; return what forward computes '
                              'from it')
    read = {name for operation in found.operations for name in operation.of} | {
        found.output, *(state.next for state in found.states.values())}
    for name in found.inputs:
        if name not in read:
            raise ImportFault(f"inputs: the output does not depend on '{name}'; return what "
                              'forward computes from it, or leave the input out')
    return own_states(found)


def fed_by_image(program: ImportedProgram) -> set[str]:
    """Return what depends on an input, in this frame or in a later one."""
    fed, before = {*program.inputs}, 0
    while len(fed) > before:
        before = len(fed)
        fed |= {name for name, state in program.states.items() if state.next in fed}
        for operation in program.operations:
            if not fed.isdisjoint(operation.of):
                fed.add(operation.name)
    return fed


class Editing:
    """A program that is being changed; every operation stays behind those that it reads."""

    def __init__(self, program: ImportedProgram) -> None:
        self._whole = Whole(program)
        self.sizes = self._whole.sizes
        self.inputs, self.output = program.inputs, program.output
        self.states = dict(program.states)
        self.operations: dict[str, ImportedOperation] = {}
        #: Which operations read a value.
        self.readers: dict[str, set[str]] = {name: set() for name in self.sizes}
        for operation in program.operations:
            self.put(replace(operation, shape=self._whole.shapes[operation.name]))

    @property
    def kept(self) -> set[str]:
        """What is wanted of the network itself."""
        return {self.output, *(state.next for state in self.states.values())}

    def put(self, operation: ImportedOperation) -> None:
        """Add an operation, or exchange that of its name."""
        before = self.operations.get(operation.name)
        for name in before.of if before else ():
            self.readers[name].discard(operation.name)
        for name in operation.of:
            self.readers[name].add(operation.name)
        self.operations[operation.name] = operation

    def remove(self, name: str) -> None:
        """Remove an operation that nobody reads."""
        for source in self.operations.pop(name).of:
            self.readers[source].discard(name)

    def bypass(self, name: str, source: str) -> bool:
        """Let what reads an operation read a source instead; return whether that is possible."""
        nexts = {key: state for key, state in self.states.items() if state.next == name}
        if (name == self.output and source not in self.operations) or (
                nexts and source in self.states):
            return False
        for reader in [*self.readers[name]]:
            operation = self.operations[reader]
            self.put(replace(operation, of=tuple(
                source if each == name else each for each in operation.of)))
        self.output = source if name == self.output else self.output
        self.states |= {key: replace(state, next=source) for key, state in nexts.items()}
        self.remove(name)
        return True

    def alone(self, name: str) -> ImportedOperation | None:
        """Return an operation of that name if there is one with a single reader."""
        single = len(self.readers[name]) == 1 and name not in self.kept
        return self.operations.get(name) if single else None

    def compute_constants(self) -> None:
        """Make constants of what depends on no input."""
        values: dict[str, Tensor] = {}
        for operation in [*self.operations.values()]:
            if not all(name in values for name in operation.of):
                continue
            compute = self._whole.operations[operation.name]
            value = compute(*[values[name] for name in operation.of])
            if value.shape[:1] == (1,):
                values[operation.name] = value
                self.put(replace(operation, kind='constant', of=(), shape=tuple(value.shape[1:]),
                                 options={'shape': list(value.shape[1:])},
                                 weights={'value': value[0].detach().contiguous()}))

    def drop_dead_ends(self) -> None:
        """Remove what neither the output nor a state that it needs depends on."""
        live = needed(self.output, self.states, self.operations)
        for name in reversed([*self.operations]):
            if name not in live:
                self.remove(name)
        self.states = {name: state for name, state in self.states.items() if name in live}

    def vanish(self, operation: ImportedOperation) -> bool:
        """Remove an operation that gives its operand as it is."""
        kind, of, options = operation.kind, operation.of, operation.options
        stays = len(of) == 1 and self.sizes[of[0]] == self.sizes[operation.name]
        return stays and (
            kind in SAME_IF_SHAPE_STAYS or kind == 'concatenate'
            or (kind == 'permute' and [*options['axes']] == [*range(len(options['axes']))])
            or (kind == 'pad' and not any(options['padding']))
            or (kind == 'scale' and (options.get('factor', 1), options.get('offset', 0)) == (1, 0))
        ) and self.bypass(operation.name, of[0])

    def shorten(self, operation: ImportedOperation) -> bool:
        """Let a reshape read what the reshape in front of it reads."""
        front = self.operations.get(operation.of[0]) if operation.kind == 'reshape' else None
        if not front or front.kind != 'reshape':
            return False
        self.put(replace(operation, of=front.of))
        if not self.readers[front.name] and front.name not in self.kept:
            self.remove(front.name)
        return True

    def fold_pads(self, operation: ImportedOperation) -> bool:
        """Let a convolution pad what a pad in front of it does."""
        pad = self.alone(operation.of[0]) if operation.kind == 'convolution' else None
        if not pad or pad.kind != 'pad' or pad.options.get('filling'):
            return False
        axes = len(operation.options['kernel'])
        sizes = [*pad.options['padding'], *[0] * (2 * axes)]
        if min(sizes) < 0 or any(sizes[2 * axes:]):
            return False
        own = [*operation.options.get('padding', ())] or [0] * 2 * axes
        # The last axis comes first in a pad.
        more = [sizes[2 * (axes - 1 - i) + end] for end in (0, 1) for i in range(axes)]
        self.put(replace(operation, of=pad.of, options={
            **operation.options, 'padding': [a + b for a, b in zip(own, more)]}))
        self.remove(pad.name)
        return True

    def scaling(self, operation: ImportedOperation) -> Scaling | None:
        """Return the scale and the shift that an operation is, if it is one."""
        kind, options, weights = operation.kind, operation.options, operation.weights
        if kind == 'affine':
            return Scaling(operation.of[0], weights['weight'].double(), weights['bias'].double())
        if kind == 'scale':
            return Scaling(operation.of[0], *(torch.tensor(options.get(key, default)).double()
                                              for key, default in (('factor', 1), ('offset', 0))))
        constants = [i for i, name in enumerate(operation.of) if name in self.operations
                     and self.operations[name].kind == 'constant']
        if kind not in ARITHMETIC or len(constants) != 1:
            return None
        first = constants == [0]
        value = self.operations[operation.of[constants[0]]].weights['value'].double()
        source = operation.of[1 if first else 0]
        if self.sizes[source] != self.sizes[operation.name] or (kind == 'divide' and first):
            return None
        one, none = torch.ones((), dtype=value.dtype), torch.zeros((), dtype=value.dtype)
        return Scaling(source, *{
            'add': (one, value), 'multiply': (value, none), 'divide': (1 / value, none),
            'subtract': (-one, value) if first else (one, -value)}[kind])

    def fold(self, operation: ImportedOperation) -> bool:
        """Make a scale and a shift part of the layer in front, or else of the one behind."""
        scaling = self.scaling(operation)
        if not scaling:
            return False
        front = self.alone(scaling.source)
        changed = front and scaled(front, scaling, len(self.sizes[front.name][0]) - 1)
        if changed and self.bypass(operation.name, changed.name):
            self.put(changed)
            return True
        if not self.alone(operation.name):
            return False
        (reader,) = self.readers[operation.name]
        changed = scaled_before(self.operations[reader], scaling,
                                len(self.sizes[scaling.source][0]) - 1)
        if changed:
            self.put(replace(changed, of=(scaling.source,)))
            self.remove(operation.name)
        return bool(changed)

    def recognise(self, operation: ImportedOperation) -> bool:
        """Make one operation of what is written out as several, for speed."""
        kind, of = operation.kind, operation.of
        found: tuple[str, str] | None = None
        if kind == 'multiply':
            for gate, value in (of, of[::-1]):
                front = self.alone(gate)
                if front and front.of == (value,) and front.kind in GATED:
                    found = GATED[front.kind], value
        elif kind in ('clip', 'scale', 'affine', *ARITHMETIC):
            found = self.hard_sigmoid(operation)
        if found:
            self.put(replace(operation, kind=found[0], of=(found[1],), options={}, weights={}))
        return bool(found)

    def hard_sigmoid(self, operation: ImportedOperation) -> tuple[str, str] | None:
        """Return what is a hard sigmoid, or its product with its operand, and of which value."""
        factor, product = 1.0, ''
        clip: ImportedOperation | None = operation
        if operation.kind != 'clip':
            scaling = self.scaling(operation)
            if not scaling or scaling.weight.numel() != 1 or scaling.bias.any():
                return None
            factor, clip = float(scaling.weight), self.alone(scaling.source)
        if clip and clip.kind == 'multiply':
            pairs = [(self.alone(gate), value) for gate, value in (clip.of, clip.of[::-1])]
            clip, product = next((pair for pair in pairs if pair[0] and pair[0].kind == 'clip'),
                                 (None, ''))
        shift = self.alone(clip.of[0]) if clip and clip.kind == 'clip' else None
        inner = shift and self.scaling(shift)
        if not clip or not inner or inner.weight.numel() != 1 or inner.bias.numel() != 1:
            return None
        low, high = (clip.options.get(key) or 0 for key in ('low', 'high'))
        found = [factor * number for number in (low, high, float(inner.weight), float(inner.bias))]
        if product not in ('', inner.source) or any(
                abs(one - other) > 1e-6 for one, other in zip(found, (0, 1, 1 / 6, 1 / 2))):
            return None
        return 'hard_swish' if product else 'hard_sigmoid', inner.source
