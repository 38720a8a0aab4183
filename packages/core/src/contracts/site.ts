/** What kind of module a site is. */
export type SiteKind = 'linear' | 'embedding' | 'layerNorm' | 'conv2d';

/** What a module does in a transformer layer: what methods that place by role go by. */
export type SiteRole =
  | 'attention.query'
  | 'attention.key'
  | 'attention.value'
  | 'attention.qkv'
  | 'attention.output'
  | 'ffn.in'
  | 'ffn.out'
  | 'head'
  | 'other';

/** A module of a model that a method may act on. A site is data: a method never sees the model. */
export interface Site {
  /** Dotted module path, as in the model's checkpoint. */
  readonly path: string;
  readonly kind: SiteKind;
  readonly role: SiteRole;
  /** Index of the transformer layer it belongs to. */
  readonly layer?: number;
  readonly inFeatures: number;
  readonly outFeatures: number;
  readonly hasBias: boolean;
  readonly kernel?: readonly [number, number];
}
