import * as tf from '@tensorflow/tfjs-core';
import { describe } from '../config.js';
import { ConfigError, nearestPaths } from '../errors.js';
import type { AdapterLayer, AdapterLayers, FrozenModule } from '../contracts/layer.js';
import type { TargetConfig } from '../contracts/method.js';
import { allSites, type Model } from '../contracts/model.js';
import type { Site } from '../contracts/site.js';
import { isInHead } from '../head.js';
import * as nn from '../nn/index.js';
import { floats, tensorAt, transposed, type HostTensor } from '../tensors.js';
import { pickRows } from '../ranks/factors.js';
import { fixedLayer } from './layers.js';

/*
 * Training the embedding rows of single tokens while the rest of the table stays frozen: PEFT's
 * `trainable_token_indices`. D [k, width] holds the rows of the k tokens, initialised from the table:
 *
 *   embedding       a trained token yields its row of D, every other token its frozen row
 *   head            y = x W^T, where rows of D replace those of W: x [rows, width] -> [rows, words]
 */

/** The name of the trained rows among a layer's tensors. */
export const TOKEN_ROWS = 'trainableTokensDelta';

/** Returns whether a layer trains rows of a table. */
export function trainsTokens({ params }: AdapterLayer): boolean {
  return TOKEN_ROWS in params;
}

/**
 * Returns the layers of the tokens that a configuration trains, by module path. A plain list means the word embeddings.
 * A head tied to that table uses the same rows, unless tokens of its own are given for it.
 * @param frozen returns a module's weight
 * @throws ConfigError for an unknown module, one that is not a word-embedding table, or a token it does not have.
 */
export function tokenLayers(model: Model, config: TargetConfig, frozen: (path: string) => FrozenModule): AdapterLayers {
  const tokens = tokensByPath(model, config);
  const layers: Record<string, AdapterLayer> = {};
  for (const [path, indices] of tokens) {
    const site = allSites(model).find((each) => each.path === path) as Site;
    assertTokens(site, indices);
    const heads = (model.tied ?? []).filter(({ table }) => table === path).map((tied) => tied.site.path);
    layers[path] = tokenLayer(site, frozen(path), indices, !heads.some((head) => tokens.has(head)));
  }
  return layers;
}

function tokensByPath(model: Model, config: TargetConfig): Map<string, readonly number[]> {
  const { trainableTokenIndices: wanted = null, ensureWeightTying = false } = config;
  const tokens = new Map<string, readonly number[]>();
  if (wanted === null) return tokens;
  for (const [name, indices] of Object.entries(isList(wanted) ? { [tableOf(model)]: wanted } : wanted)) {
    for (const path of namedTables(model, name)) tokens.set(path, indices);
  }
  for (const { site, table } of model.tied ?? []) {
    const [own, ofTable] = [tokens.get(site.path)?.join(), tokens.get(table)?.join()];
    if (own === undefined || ofTable === undefined) continue;
    if (own === ofTable) tokens.delete(site.path); // the head uses the table's rows
    else if (ensureWeightTying) {
      throw new ConfigError(
        `ensureWeightTying needs the same tokens for '${table}' and '${site.path}', got ${ofTable} and ${own}`,
        'trainableTokenIndices',
      );
    }
  }
  return tokens;
}

function isList(wanted: object): wanted is readonly number[] {
  return Array.isArray(wanted);
}

/** Returns the path of the word embeddings: the first embedding that the model reads. */
function tableOf({ name, sites }: Model): string {
  const table = sites.find(({ kind }) => kind === 'embedding');
  if (table) return table.path;
  throw new ConfigError(`trainableTokenIndices: ${name} has no word embeddings`, 'trainableTokenIndices');
}

/** Returns the paths that end in a name, by PEFT's rule. */
function namedTables(model: Model, name: string): string[] {
  const sites = allSites(model).filter(({ path }) => path.endsWith(name));
  const odd = sites.find(({ path, kind, hasBias }) => {
    return isInHead(model, path) || hasBias || !(kind === 'embedding' || kind === 'linear');
  });
  if (sites.length > 0 && !odd) return sites.map(({ path }) => path);
  const paths = allSites(model).map(({ path }) => path);
  throw new ConfigError(
    odd
      ? `trainableTokenIndices: '${odd.path}' is no word embedding`
      : `trainableTokenIndices: ${model.name} has no module '${name}'; the nearest are ${nearestPaths(paths, [name]).join(', ')}`,
    'trainableTokenIndices',
  );
}

function assertTokens({ path, kind, inFeatures, outFeatures }: Site, indices: readonly number[]): void {
  const words = kind === 'embedding' ? inFeatures : outFeatures;
  const odd = indices.find((token, at) => token >= words || indices.indexOf(token) !== at);
  if (odd === undefined && indices.length > 0) return;
  throw new ConfigError(
    `trainableTokenIndices of '${path}' are ${describe(indices)}; expected different tokens from 0 to ${words - 1}`,
    'trainableTokenIndices',
  );
}

function tokenLayer(site: Site, frozen: FrozenModule, indices: readonly number[], actsOnHead: boolean): AdapterLayer {
  const isTable = site.kind === 'embedding';
  const rows = pickRows(isTable ? frozen.weight : transposed(frozen.weight), indices); // [k, width]
  const ofHead = headForward(indices);
  return fixedLayer({
    site,
    params: { [TOKEN_ROWS]: { initial: rows, trainable: true, group: 'head', decay: true } },
    forward: isTable ? tableForward(indices) : ofHead,
    ...(isTable && actsOnHead && { tiedForward: ofHead }),
    deltaWeight: (values, { weight }) => change(site, weight, tensorAt(values, TOKEN_ROWS), indices),
  });
}

function tableForward(indices: readonly number[]): AdapterLayer['forward'] {
  return (ids, p, at) => {
    const isToken = tf.cast(tf.equal(tf.expandDims(ids, -1), tf.tensor1d([...indices], 'int32')), 'float32'); // [.., k]
    const own = nn.linear(isToken, tensorAt(p, TOKEN_ROWS)); // [.., width]
    return tf.add(tf.mul(at.base(), tf.sub(1, tf.sum(isToken, -1, true))), own);
  };
}

function headForward(indices: readonly number[]): AdapterLayer['forward'] {
  return (x, p, at) => {
    const base = at.base(); // [rows, words]
    const words = base.shape[1] as number;
    const places = tf.oneHot(tf.tensor1d([...indices], 'int32'), words); // [k, words]
    const own = tf.matMul(x, tensorAt(p, TOKEN_ROWS), false, true); // [rows, width] -> [rows, k]
    return tf.add(tf.mul(base, tf.sub(1, tf.sum(places, 0))), tf.matMul(own, tf.cast(places, 'float32')));
  };
}

/** Returns the change of the weight [in, out]: D minus the original rows, zeros elsewhere. */
function change(site: Site, weight: HostTensor, rows: HostTensor, indices: readonly number[]): Float32Array {
  const isTable = site.kind === 'embedding';
  const [own, before] = [floats(rows), floats(weight)];
  const [columns = 0, width = 0] = [weight.shape[1], rows.shape[1]];
  const delta = new Float32Array(before.length);
  indices.forEach((token, row) => {
    for (let at = 0; at < width; at++) {
      const place = isTable ? token * columns + at : at * columns + token;
      delta[place] = (own[row * width + at] as number) - (before[place] as number);
    }
  });
  return delta;
}
