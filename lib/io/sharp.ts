import type Sharp from 'sharp'

/** sharp, loaded with the first picture: it takes longer to load than all of Sluice. */
export async function loadSharp(): Promise<typeof Sharp> {
  return (await import('sharp')).default
}
