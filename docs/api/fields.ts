import {
  DeclarationReflection,
  IntersectionType,
  LiteralType,
  ReferenceType,
  ReflectionType,
  UnionType,
  type SomeType,
} from 'typedoc';
import { wrappers } from './parameters.js';

/** The fields of a type that is, by its name, an object of options; none of another type. */
export function optionsIn(type: SomeType | undefined): DeclarationReflection[] {
  if (type instanceof IntersectionType || type instanceof UnionType) return type.types.flatMap(optionsIn);
  if (!(type instanceof ReferenceType)) return [];
  if (!wrappers.includes(type.name)) return /(?:Options|Config)$/.test(type.name) ? fieldsOf(type.reflection) : [];
  const [wrapped, keys] = type.typeArguments ?? [];
  const listed = (keys instanceof UnionType ? keys.types : [keys]).map((key) =>
    key instanceof LiteralType ? key.value : undefined,
  );
  return optionsIn(wrapped).filter(({ name }) => {
    if (type.name === 'Pick') return listed.includes(name);
    return type.name !== 'Omit' || !listed.includes(name);
  });
}

/** The fields of the configuration that a method is called with. */
export function configurationOf({ type }: DeclarationReflection): DeclarationReflection[] {
  const [configuration] =
    type instanceof ReferenceType && type.name === 'CallableMethod' ? (type.typeArguments ?? []) : [];
  return optionsIn(configuration);
}

function fieldsOf(reflection: ReferenceType['reflection']): DeclarationReflection[] {
  if (!(reflection instanceof DeclarationReflection)) return [];
  const { children, type } = reflection;
  return children ?? (type instanceof ReflectionType ? (type.declaration.children ?? []) : optionsIn(type));
}
