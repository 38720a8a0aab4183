import type { Site, SiteRole } from '@peftjs/core/method';
import type { Node } from '../format/model.js';

/**
 * Returns the paths that a module may have, the surest first: the module that the exporter noted, the checkpoint's name
 * of its weight, the name of the node, e.g. `/encoder/layer.0/output/dense/MatMul`, and the name of its bias. Exporters
 * store equal tensors only once, under one of their names, so the noted module comes before the weight's, unless the
 * weight's lies within it. The last path is the node's own name as a single segment.
 * @param weight the name by which the node reads the weight
 */
export function pathsOf(node: Pick<Node, 'name' | 'module' | 'outputs'>, weight: string, bias = ''): string[] {
  const [parameter, beside] = [/^([\w.]+)\.weight$/.exec(weight)?.[1], /^([\w.]+)\.bias$/.exec(bias)?.[1]];
  const named = /^\/(.+)\/[^/]+$/.exec(node.name)?.[1]?.replaceAll('/', '.');
  const own = (node.name || node.outputs[0] || weight).replaceAll(/[^\w.]+/g, '_');
  const { module } = node;
  const isWithin = module !== undefined && parameter?.startsWith(`${module}.`) === true;
  return [...(isWithin ? [parameter, module] : [module, parameter]), named, beside, own].filter(
    (path) => path !== undefined,
  );
}

/** Returns the index of the transformer layer in a path; none outside of one. */
export function layerIn(path: string): { readonly layer?: number } {
  const layer = /(?:^|\.)(?:layers?|h|blocks?)\.(\d+)(?:\.|$)/.exec(path)?.[1];
  return layer === undefined ? {} : { layer: Number(layer) };
}

/** The ends of the paths of modules in the common architectures, by role. */
const ROLES: readonly (readonly [SiteRole, RegExp])[] = [
  ['attention.query', /\.(?:query|q_proj|q_lin|q)$/],
  ['attention.key', /\.(?:key|k_proj|k_lin|k)$/],
  ['attention.value', /\.(?:value|v_proj|v_lin|v)$/],
  ['attention.qkv', /\.(?:Wqkv|qkv|c_attn|qkv_proj|query_key_value)$/],
  [
    'attention.output',
    /\.(?:attention\.output\.dense|attention\.dense|o_proj|out_proj|out_lin|attn\.(?:Wo|o|proj|c_proj))$/,
  ],
  ['ffn.in', /\.(?:intermediate\.dense|lin1|gate_proj|up_proj|gate_up_proj|fc1|c_fc|mlp\.Wi|wi)$/],
  ['ffn.out', /\.(?:output\.dense|lin2|down_proj|fc2|mlp\.(?:Wo|c_proj)|wo)$/],
];

/** Returns the role of a linear module in a transformer layer; 'other' if its path does not tell. */
export function roleOf(path: string): SiteRole {
  return ROLES.find(([, ending]) => ending.test(`.${path}`))?.[0] ?? 'other';
}

/** Returns the names of the modules that are adapted by default: queries and values, else all linear ones. */
export function defaultTargets(sites: readonly Site[]): string[] {
  const linear = sites.filter(({ kind }) => kind === 'linear');
  const queries = linear.filter(({ role }) => ['attention.query', 'attention.value', 'attention.qkv'].includes(role));
  const chosen = queries.length > 0 ? queries : linear;
  return [...new Set(chosen.map(({ path }) => path.split('.').at(-1) as string))];
}
