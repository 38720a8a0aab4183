import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire';
import { ELEMENT_NUMBERS } from './graph.js';
import type { Attribute, GraphConstant, GraphNode, GraphPort } from './graph.js';

/** What a model file is made of. */
export interface ModelGraph {
  readonly nodes: readonly GraphNode[];
  readonly constants: readonly GraphConstant[];
  readonly inputs: readonly ModelPort[];
  readonly outputs: readonly ModelPort[];
}

/** An input or output; a dimension with a name in place of a size may differ from run to run. */
export interface ModelPort extends Pick<GraphPort, 'name' | 'dtype'> {
  readonly shape: readonly (number | string)[];
}

/**
 * The graph as an ONNX model, written field by field (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto). Large constants
 * are copied once, into the file.
 */
export function writeModel({ nodes, constants, inputs, outputs }: ModelGraph): Uint8Array {
  const written = (write: (to: BinaryWriter) => void): Uint8Array => {
    const to = new BinaryWriter();
    write(to);
    return to.finish();
  };
  const graph = [
    written((to) => {
      for (const node of nodes) message(to, 1, (body) => writeNode(body, node));
      text(to, 2, 'step');
    }),
    ...constants.flatMap((constant) => sized(5, [written((to) => writeHead(to, constant)), memoryOf(constant)])),
    written((to) => {
      for (const port of inputs) message(to, 11, (body) => writePort(body, port));
      for (const port of outputs) message(to, 12, (body) => writePort(body, port));
    }),
  ];
  const head = written((to) => {
    int(to, 1, IR_VERSION);
    text(to, 2, 'peftjs');
  });
  const domains = new Set(['', ...nodes.map(({ domain }) => domain)]);
  const opsets = written((to) => {
    for (const [domain, version] of OPSETS)
      if (domains.has(domain)) message(to, 8, (set) => writeOpset(set, domain, version));
  });
  return joined([head, ...sized(7, graph), opsets]);
}

const IR_VERSION = 9;
const OPSETS: readonly (readonly [string, number])[] = [
  ['', 20],
  ['com.microsoft', 1],
];

function writeOpset(to: BinaryWriter, domain: string, version: number): void {
  text(to, 1, domain);
  int(to, 2, version);
}

/** The parts of a message, with its field and length before them. */
function sized(field: number, parts: readonly Uint8Array[]): Uint8Array[] {
  const to = new BinaryWriter();
  to.tag(field, WireType.LengthDelimited).uint32(lengthOf(parts));
  return [to.finish(), ...parts];
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(lengthOf(parts));
  let end = 0;
  for (const part of parts) {
    bytes.set(part, end);
    end += part.length;
  }
  return bytes;
}

function lengthOf(parts: readonly Uint8Array[]): number {
  return parts.reduce((sum, { length }) => sum + length, 0);
}

/** AttributeProto.AttributeType. */
const FLOAT = 1;
const INT = 2;
const STRING = 3;
const INTS = 7;

function writeNode(to: BinaryWriter, node: GraphNode): void {
  for (const name of node.inputs) text(to, 1, name);
  for (const name of node.outputs) text(to, 2, name);
  text(to, 4, node.op);
  for (const [name, value] of Object.entries(node.attributes)) {
    message(to, 5, (attribute) => writeAttribute(attribute, name, value));
  }
  if (node.domain !== '') text(to, 7, node.domain);
}

function writeAttribute(to: BinaryWriter, name: string, value: Attribute): void {
  text(to, 1, name);
  if (typeof value === 'number') {
    int(to, 3, value);
    int(to, 20, INT);
  } else if (typeof value === 'string') {
    text(to, 4, value);
    int(to, 20, STRING);
  } else if ('float' in value) {
    to.tag(2, WireType.Bit32).float(value.float);
    int(to, 20, FLOAT);
  } else {
    for (const item of value) int(to, 8, item);
    int(to, 20, INTS);
  }
}

/** A constant up to its numbers: these come last, as they are. */
function writeHead(to: BinaryWriter, { name, dtype, shape, data }: GraphConstant): void {
  for (const dim of shape) int(to, 1, dim);
  int(to, 2, ELEMENT_NUMBERS[dtype]);
  text(to, 8, name);
  to.tag(9, WireType.LengthDelimited).uint32(data.byteLength);
}

function memoryOf({ data }: GraphConstant): Uint8Array {
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}

function writePort(to: BinaryWriter, { name, dtype, shape }: ModelPort): void {
  text(to, 1, name);
  message(to, 2, (type) =>
    message(type, 1, (tensor) => {
      int(tensor, 1, ELEMENT_NUMBERS[dtype]);
      message(tensor, 2, (dims) => {
        for (const dim of shape) message(dims, 1, (size) => writeDimension(size, dim));
      });
    }),
  );
}

function writeDimension(to: BinaryWriter, dim: number | string): void {
  if (typeof dim === 'string') text(to, 2, dim);
  else int(to, 1, dim);
}

function message(to: BinaryWriter, field: number, write: (to: BinaryWriter) => void): void {
  to.tag(field, WireType.LengthDelimited).fork();
  write(to);
  to.join();
}

function text(to: BinaryWriter, field: number, value: string): void {
  to.tag(field, WireType.LengthDelimited).string(value);
}

function int(to: BinaryWriter, field: number, value: number): void {
  to.tag(field, WireType.Varint).int64(value);
}
