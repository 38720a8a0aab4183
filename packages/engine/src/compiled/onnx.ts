import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire';
import { ELEMENT_NUMBERS, renamedNode } from './parts.js';
import type { Attribute, GraphConstant, GraphNode, GraphPort, Subgraph, SubgraphPort } from './parts.js';

/** A graph, as traced, as it runs, or in a file: these differ in what is known of its inputs and outputs. */
export interface ModelGraph<Port extends ModelPort = ModelPort> {
  /** The nodes, in the order of computation. */
  readonly nodes: readonly GraphNode[];
  /** The tensors stored in the graph. */
  readonly constants: readonly GraphConstant[];
  /** The tensors that every run is passed. */
  readonly inputs: readonly Port[];
  /** The tensors that every run returns. */
  readonly outputs: readonly Port[];
  /**
   * Computed values whose axes differ from run to run, with a name for each such axis. ONNX Runtime infers most shapes
   * itself, but takes every size that the graph computes to differ from all others. It then shares less memory between
   * values, and the time to open a session grows with the square of the number of nodes.
   */
  readonly shapes?: readonly ModelPort[];
}

/** An input or output of a model. */
export interface ModelPort extends Pick<GraphPort, 'name' | 'dtype'> {
  /** Its dimensions; one with a name in place of a size may differ from run to run. */
  readonly shape: readonly (number | string)[];
}

/**
 * Writes the graph as an ONNX model, field by field (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto). Large
 * constants are copied only once, into the file.
 */
export function writeModel(model: ModelGraph): Uint8Array {
  return written(model, new Map());
}

/** A model whose large weights are in files of their own. */
export interface ExternalModel {
  /** The ONNX file. */
  readonly model: Uint8Array;
  /** The files with the weights, by name. */
  readonly data: ReadonlyMap<string, Uint8Array>;
}

/** The file and byte offset of a constant. */
interface Place {
  readonly file: string;
  readonly offset: number;
}

/** Constants with fewer bytes stay in the model: ONNX Runtime reads shapes from it. */
const SMALL_BYTES = 1024;

/** Constants start at multiples of a memory page, so that they can be mapped into memory. */
const PAGE_BYTES = 4096;

/**
 * Writes the graph as an ONNX model with its large constants in separate files, named as transformers.js expects:
 * `<file>_data`, `<file>_data_1`, ..
 * @param maxBytes the most bytes of a file; a single larger constant still gets a file
 */
export function writeExternally(graph: ModelGraph, file: string, maxBytes: number): ExternalModel {
  const places = new Map<string, Place>();
  const parts: { readonly constant: GraphConstant; readonly offset: number }[][] = [[]];
  let end = 0;
  for (const constant of graph.constants) {
    const { byteLength } = constant.data;
    if (byteLength < SMALL_BYTES) continue;
    if (end > 0 && end + byteLength > maxBytes) {
      parts.push([]);
      end = 0;
    }
    places.set(constant.name, { file: dataFile(file, parts.length - 1), offset: end });
    parts.at(-1)?.push({ constant, offset: end });
    end = Math.ceil((end + byteLength) / PAGE_BYTES) * PAGE_BYTES;
  }
  const data = parts.map((own, index) => {
    const last = own.at(-1);
    const bytes = new Uint8Array(last ? last.offset + last.constant.data.byteLength : 0);
    for (const { constant, offset } of own) bytes.set(memoryOf(constant), offset);
    return [dataFile(file, index), bytes] as const;
  });
  return { model: written(graph, places), data: new Map(data) };
}

function dataFile(file: string, index: number): string {
  return `${file}_data${index === 0 ? '' : `_${index}`}`;
}

function written(model: ModelGraph, places: ReadonlyMap<string, Place>): Uint8Array {
  const graph = graphParts(model, 'step', places);
  const head = part((to) => {
    int(to, 1, IR_VERSION);
    text(to, 2, 'peftjs');
  });
  const domains = new Set(['', ...domainsOf(model)]);
  const opsets = part((to) => {
    for (const [domain, version] of OPSETS)
      if (domains.has(domain)) message(to, 8, (set) => writeOpset(set, domain, version));
  });
  return joined([head, ...sized(7, graph), opsets]);
}

/** A port whose dimensions may be unknown. */
type WrittenPort = Omit<ModelPort, 'shape'> & { readonly shape: readonly (number | string | undefined)[] };

interface WrittenGraph extends Pick<ModelGraph, 'nodes' | 'constants' | 'shapes'> {
  readonly inputs: readonly WrittenPort[];
  readonly outputs: readonly WrittenPort[];
}

/** A GraphProto, in parts, so that large constants are not copied. */
function graphParts(
  { nodes, constants, inputs, outputs, shapes = [] }: WrittenGraph,
  name: string,
  places: ReadonlyMap<string, Place>,
): Uint8Array[] {
  return [
    part((to) => {
      for (const node of nodes) message(to, 1, (body) => writeNode(body, node));
      text(to, 2, name);
    }),
    ...constants.flatMap((constant) => {
      const place = places.get(constant.name);
      const head = part((to) => writeHead(to, constant, place));
      return sized(5, place ? [head] : [head, memoryOf(constant)]);
    }),
    part((to) => {
      for (const port of inputs) message(to, 11, (body) => writePort(body, port));
      for (const port of outputs) message(to, 12, (body) => writePort(body, port));
      for (const port of shapes) message(to, 13, (body) => writePort(body, port));
    }),
  ];
}

function part(write: (to: BinaryWriter) => void): Uint8Array {
  const to = new BinaryWriter();
  write(to);
  return to.finish();
}

function domainsOf({ nodes }: Pick<ModelGraph, 'nodes'>): string[] {
  return nodes.flatMap((node) => [node.domain, ...subgraphs(node).flatMap(([, graph]) => domainsOf(graph))]);
}

/** The graphs that a node runs, by attribute. */
function subgraphs({ attributes }: GraphNode): [string, Subgraph][] {
  return Object.entries(attributes).flatMap(([key, value]) =>
    typeof value === 'object' && 'graph' in value ? [[key, value.graph] as [string, Subgraph]] : [],
  );
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

/** Puts the field number and the length before the parts of a message. */
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
const GRAPH = 5;
const INTS = 7;

function writeNode(to: BinaryWriter, node: GraphNode): void {
  const captured = Math.max(0, ...subgraphs(node).map(([, graph]) => graph.captured));
  for (const name of node.inputs.slice(0, node.inputs.length - captured)) text(to, 1, name);
  for (const name of node.outputs) text(to, 2, name);
  text(to, 4, node.op);
  for (const [name, value] of Object.entries(node.attributes)) {
    message(to, 5, (attribute) => writeAttribute(attribute, name, value, node));
  }
  if (node.domain !== '') text(to, 7, node.domain);
}

function writeAttribute(to: BinaryWriter, name: string, value: Attribute, node: GraphNode): void {
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
  } else if ('graph' in value) {
    to.tag(6, WireType.LengthDelimited).bytes(
      joined(graphParts(within(node, name, value.graph), name, new Map())).slice(),
    );
    int(to, 20, GRAPH);
  } else {
    for (const item of value) int(to, 8, item);
    int(to, 20, INTS);
  }
}

/** TensorProto.DataLocation. */
const EXTERNAL = 1;

/** A node's subgraph, with the names of the values that it captures, and names that no other graph has for its own. */
function within(node: GraphNode, attribute: string, graph: Subgraph): WrittenGraph {
  const [own, captured] = [-graph.captured || graph.inputs.length, node.inputs.slice(-graph.captured)];
  const outer = new Map(graph.inputs.slice(own).map(({ name }, index) => [name, captured[index] as string]));
  const named = (name: string): string => outer.get(name) ?? `${node.outputs[0] ?? ''}/${attribute}/${name}`;
  const renamed = <T extends { readonly name: string }>(one: T): T => ({ ...one, name: named(one.name) });
  const ports = (all: readonly SubgraphPort[]): WrittenPort[] =>
    all.map(({ name, dtype, rank }) => ({ name: named(name), dtype, shape: Array<undefined>(rank).fill(undefined) }));
  return {
    nodes: graph.nodes.map((inner) => renamedNode(inner, named)),
    constants: graph.constants.map(renamed),
    inputs: ports(graph.inputs.slice(0, own)),
    outputs: ports(graph.outputs),
  };
}

/** Writes a constant's fields before its data. The data comes last, or is in a file of its own. */
function writeHead(to: BinaryWriter, { name, dtype, shape, data }: GraphConstant, place: Place | undefined): void {
  for (const dim of shape) int(to, 1, dim);
  int(to, 2, ELEMENT_NUMBERS[dtype]);
  text(to, 8, name);
  if (place === undefined) {
    to.tag(9, WireType.LengthDelimited).uint32(data.byteLength);
    return;
  }
  const entries = { location: place.file, offset: String(place.offset), length: String(data.byteLength) };
  for (const [key, value] of Object.entries(entries)) {
    message(to, 13, (entry) => {
      text(entry, 1, key);
      text(entry, 2, value);
    });
  }
  int(to, 14, EXTERNAL);
}

function memoryOf({ data }: GraphConstant): Uint8Array {
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}

function writePort(to: BinaryWriter, { name, dtype, shape }: WrittenPort): void {
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

function writeDimension(to: BinaryWriter, dim: number | string | undefined): void {
  if (typeof dim === 'string') text(to, 2, dim);
  else if (dim !== undefined) int(to, 1, dim);
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
