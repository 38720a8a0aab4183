import { PeftError } from '@peftjs/core';
import { CheckpointError, EngineError, sizeOf, UnsupportedError, type Tensors } from '@peftjs/core/method';
import type { Scope } from '@peftjs/core/model';
import type { Tensor } from '@tensorflow/tfjs-core';
import type { Node } from './format/model.js';
import { TYPES, type Constant } from './format/tensor.js';
import type { Graph } from './graph.js';
import { domains } from './operators/index.js';
import type { Operator, OperatorTable } from './operators/operator.js';
import { inputNamed } from './inputs.js';
import { tensorOf, type HostArray, type Value } from './values.js';

/** Part of a graph, ready to be traced: the nodes that some of its outputs depend on. */
export interface Plan {
  readonly nodes: readonly { readonly node: Node; readonly operator: Operator }[];
  /** The constants that are tensors of the model, by name. */
  readonly weights: ReadonlyMap<string, Constant>;
  /** Computes the output. */
  compute(scope: Scope, inputs: Tensors): Tensor;
}

/**
 * Plans the computation of an output.
 * @param own the user's operators, by name, or by `domain:name` for those outside of ONNX
 * @param maxTokens returns the most tokens of a text
 * @throws UnsupportedError naming the operator and the node for which there is no function.
 */
export function plan(graph: Graph, output: string, own: OperatorTable, maxTokens: () => number): Plan {
  const nodes = graph.order([output]).map((node) => ({ node, operator: operatorOf(node, own) }));
  const read = [...nodes.flatMap(({ node }) => node.inputs), output];
  const constants = new Map<string, HostArray | Constant>();
  for (const name of read) {
    const constant = graph.file.constants.get(name);
    if (constant) constants.set(name, isSmall(constant) ? onHost(constant) : constant);
  }
  const weights = new Map(
    [...constants].flatMap(([name, constant]) =>
      'numbers' in constant && TYPES[constant.type].kind === 'float' ? [[name, constant] as const] : [],
    ),
  );
  const lastUse = new Map(nodes.flatMap(({ node }, index) => node.inputs.map((name) => [name, index] as const)));
  const compute: Plan['compute'] = (scope, inputs) => {
    const values = new Map<string, Value>();
    const valueOf = (name: string): Value | undefined => {
      if (name === '') return undefined;
      const constant = constants.get(name);
      if (constant) return 'numbers' in constant ? constantTensor(scope, name, constant) : constant;
      return values.get(name) ?? inputNamed(name, inputs);
    };
    nodes.forEach(({ node, operator }, index) => {
      const given = node.inputs.map(valueOf);
      const made = attempted(node, () =>
        operator(given, {
          ...node,
          opset: graph.file.opset,
          outputs: node.outputs.length,
          maxTokens: maxTokens(),
          scope,
        }),
      );
      const all = Array.isArray(made) ? (made as readonly Value[]) : [made as Value];
      node.outputs.forEach((name, place) => {
        const value = all[place];
        if (value !== undefined && name !== '') values.set(name, value);
      });
      for (const name of node.inputs) if (lastUse.get(name) === index && name !== output) values.delete(name);
    });
    const made = valueOf(output);
    if (made) return tensorOf(made);
    throw new CheckpointError(`nothing computes '${output}': the graph is damaged or not supported`, output);
  };
  return { nodes, weights, compute };
}

function operatorOf({ op, domain, name }: Node, own: OperatorTable): Operator {
  const key = domain === '' ? op : `${domain}:${op}`;
  const operator = Object.hasOwn(own, key) ? own[key] : domains[domain]?.[op];
  if (operator && (Object.hasOwn(own, key) || Object.hasOwn(domains[domain] ?? {}, op))) return operator;
  if (IN_FEW_BITS.test(op)) {
    throw new UnsupportedError(
      `node '${name}' (${key}) has weights in few bits, which cannot be trained: read the graph in fp32 or fp16, and hold it in 8 or 4 bits with dtype: 'q8' or 'q4'`,
      key,
    );
  }
  throw new UnsupportedError(
    `node '${name}' has the operator '${key}', which is not known: pass your own as operators: { '${key}': (inputs, call) => .. }`,
    key,
  );
}

/** Operators of graphs that were quantized. */
const IN_FEW_BITS = /Quantize|^QLinear|^QAttention|Integer$|NBits$|Bnb4$/;

/**
 * Runs an operator.
 * @throws UnsupportedError naming the node when the operator throws one, else CheckpointError naming it.
 * @throws EngineError unchanged.
 */
function attempted<T>({ op, name, outputs }: Node, run: () => T): T {
  try {
    return run();
  } catch (cause) {
    if (cause instanceof EngineError) throw cause; // it depends on the executor, not on the graph
    const reason = cause instanceof Error ? cause.message : String(cause);
    const hint = cause instanceof PeftError ? '' : '; the graph is damaged or not supported';
    const message = `${op} '${name || (outputs[0] ?? '')}': ${reason}${hint}`;
    if (cause instanceof UnsupportedError) throw new UnsupportedError(message, name, cause);
    throw new CheckpointError(message, name, cause);
  }
}

/** The most integers of a constant that is held on the host: shapes, axes and bounds are that small. */
const MOST_INTEGERS = 256;

/** Whether a constant is so small that it is held on the host: integers, or a single float. */
function isSmall({ type, shape }: Constant): boolean {
  return sizeOf(shape) <= (TYPES[type].kind === 'float' ? 1 : MOST_INTEGERS);
}

function onHost({ type, shape, numbers }: Constant): HostArray {
  return { kind: TYPES[type].kind, shape, data: [...numbers()], varies: false };
}

/** Returns the name among the model's weights of a constant that no module has. */
export function weightName(name: string): string {
  return `onnx.${name}`;
}

function constantTensor(scope: Scope, name: string, constant: Constant): Tensor {
  return TYPES[constant.type].kind === 'float' ? scope.weight(weightName(name)) : tensorOf(onHost(constant));
}
