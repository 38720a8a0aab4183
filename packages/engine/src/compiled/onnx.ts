import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire';
import { ELEMENT_NUMBERS } from './graph.js';
import type { Attribute, GraphConstant, GraphNode, GraphPort } from './graph.js';

/** The graph as an ONNX model, written field by field (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto). */
export function writeModel(graph: {
  readonly nodes: readonly GraphNode[];
  readonly constants: readonly GraphConstant[];
  readonly inputs: readonly GraphPort[];
  readonly outputs: readonly GraphPort[];
}): Uint8Array {
  const model = new BinaryWriter();
  int(model, 1, IR_VERSION);
  text(model, 2, 'peftjs');
  message(model, 7, (body) => {
    for (const node of graph.nodes) message(body, 1, (to) => writeNode(to, node));
    text(body, 2, 'step');
    for (const constant of graph.constants) message(body, 5, (to) => writeConstant(to, constant));
    for (const port of graph.inputs) message(body, 11, (to) => writePort(to, port));
    for (const port of graph.outputs) message(body, 12, (to) => writePort(to, port));
  });
  for (const [domain, version] of OPSETS) {
    message(model, 8, (to) => {
      text(to, 1, domain);
      int(to, 2, version);
    });
  }
  return model.finish();
}

const IR_VERSION = 9;
const OPSETS: readonly (readonly [string, number])[] = [
  ['', 20],
  ['com.microsoft', 1],
];

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

function writeConstant(to: BinaryWriter, { name, dtype, shape, data }: GraphConstant): void {
  for (const dim of shape) int(to, 1, dim);
  int(to, 2, ELEMENT_NUMBERS[dtype]);
  text(to, 8, name);
  to.tag(9, WireType.LengthDelimited).bytes(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
}

function writePort(to: BinaryWriter, { name, dtype, shape }: GraphPort): void {
  text(to, 1, name);
  message(to, 2, (type) =>
    message(type, 1, (tensor) => {
      int(tensor, 1, ELEMENT_NUMBERS[dtype]);
      message(tensor, 2, (dims) => {
        for (const dim of shape) message(dims, 1, (size) => int(size, 1, dim));
      });
    }),
  );
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
