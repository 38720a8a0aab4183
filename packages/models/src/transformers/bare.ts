/**
 * Removes the prefix of module paths in transformers' classes with a head: `BertModel` has 'encoder.layer.0..' where
 * `BertForSequenceClassification` has 'bert.encoder.layer.0..'. An embedding model is the bare network, and PEFT names
 * the modules of its adapters accordingly.
 */
import type { Site } from '@peftjs/core/method';
import type { Scope, Task } from '@peftjs/core/model';
import type { Architecture, Head, Network } from '../architecture.js';
import type { ConfigFile, ModelType } from './config.js';

/** Builds the network and head for a task, with module paths as in transformers' class for that task. */
export function architectureFor(type: ModelType, config: ConfigFile, task: Task): Architecture {
  const architecture = type.architecture(config, task);
  return task === 'feature-extraction' ? withoutPrefix(architecture, type.prefix) : architecture;
}

function withoutPrefix(architecture: Architecture, prefix: string): Architecture {
  const bare = (path: string): string => (path.startsWith(prefix) ? path.slice(prefix.length) : path);
  const site = (each: Site): Site => ({ ...each, path: bare(each.path) });
  const within = (scope: Scope): Scope => bareScope(scope, bare);
  const { head } = architecture;
  return {
    ...architecture,
    ...bareDropouts(architecture, bare),
    sites: architecture.sites.map(site),
    encodeOnly: architecture.encodeOnly.map(site),
    ...(architecture.pooler && { pooler: site(architecture.pooler) }),
    lookups: architecture.lookups.map((lookup) => ({ ...lookup, site: bare(lookup.site) })),
    encode: (scope, inputs) => architecture.encode(within(scope), inputs),
    head: { ...bareHead(head, within), ...bareDropouts(head, bare) },
  };
}

function bareDropouts(
  { dropouts }: Pick<Network | Head, 'dropouts'>,
  bare: (path: string) => string,
): Pick<Network, 'dropouts'> {
  if (!dropouts) return {};
  return { dropouts: Object.fromEntries(Object.entries(dropouts).map(([place, rate]) => [bare(place), rate])) };
}

function bareHead({ tokens, ...head }: Head, within: (scope: Scope) => Scope): Head {
  return {
    ...head,
    forward: (scope, inputs) => head.forward(within(scope), inputs),
    ...(tokens && { tokens: (scope, inputs) => tokens(within(scope), inputs) }),
  };
}

function bareScope(scope: Scope, bare: (path: string) => string): Scope {
  return {
    linear: (path, x) => scope.linear(bare(path), x),
    embedding: (path, ids) => scope.embedding(bare(path), ids),
    layerNorm: (path, x, epsilon) => scope.layerNorm(bare(path), x, epsilon),
    rmsNorm: (path, x, ...rest) => scope.rmsNorm(bare(path), x, ...rest),
    weight: (name) => scope.weight(bare(name)),
    dropout: (name, x) => scope.dropout(bare(name), x),
  };
}
